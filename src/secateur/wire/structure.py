"""Which indices were cut out of a network, as vectors that tensors share."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from secateur.mask.cut import Cut
from secateur.mask.modules import name_before
from secateur.wire import positions
from secateur.wire.header import Header, Vector
from secateur.wire.page import Leaf, Page


class Vectors:
    """Vectors of bools, each stored once: most tensors of a group share theirs."""

    def __init__(self, page: Page) -> None:
        self.told: list[Vector] = []
        self._page, self._known = page, dict[tuple[int, bytes], int]()
        self._first = dict[bytes, int]()

    def add(self, stay: Tensor) -> int:
        """Its number; it is written unless it is known."""
        vector = stay.numpy()
        each = _each(vector)
        told = np.ascontiguousarray(vector[::each])
        key = told.tobytes()
        if (each, key) not in self._known:
            number = self._known[each, key] = len(self.told)
            self.told.append(Vector(told.size, each, self._first.get(key)))
            if key not in self._first:
                self._first[key] = number
                positions.put(self._page, told)
        return self._known[each, key]


def _each(vector: positions.Bools) -> int:
    """Into how many equal neighbours the vector falls apart: H x W, where channels were flattened."""
    turns = np.flatnonzero(vector[1:] != vector[:-1]) + 1
    return math.gcd(*turns.tolist(), vector.size) or 1


def read(header: Header, leaf: Leaf, most: int) -> Cut:
    """What the header and its block of vectors say was cut out.

    Args:
        most: how long all vectors together may be.

    Raises:
        ValueError: they are longer, or the block contradicts the header.
    """
    sizes = [vector.size for vector in header.vectors]
    if 0 in sizes or sum(sizes) > most:
        raise ValueError(f"vectors of {sizes[:8]}; together {most} are the most")
    told: list[positions.Bools] = []
    vectors: list[Tensor] = []
    for vector in header.vectors:
        like = vector.like
        told.append(positions.take(leaf, vector.length) if like is None else told[like])
        vectors.append(torch.from_numpy(np.repeat(told[-1], vector.each)))
    leaf.end()
    lists = {path: vectors[number] for path, number in header.lists.items()}
    kept: dict[str, Mapping[int, Tensor]] = {}
    for entry in header.entries:
        for dim, number in entry.cut:
            if int(vectors[number].sum()) != entry.shape[dim]:
                raise ValueError(
                    f"{entry.name} keeps another number of indices than its shape says"
                )
        if entry.cut:
            kept[name_before(lists, entry.name)] = {d: vectors[v] for d, v in entry.cut}
    return Cut(kept, lists, header.sizes)

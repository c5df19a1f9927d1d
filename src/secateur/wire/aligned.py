"""A tensor of an older network, in the shape that a newer one gives it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.mask.cut import Cut
from secateur.mask.modules import name_before


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """What a bundle holds, all of it in memory: a base.

    Attributes:
        digest: SHA-256 of the file.
        tensors: by their names in the network that was packed.
        cut: what leads to that network from the dense one.
    """

    digest: bytes
    tensors: Mapping[str, Tensor]
    cut: Cut


class Older:
    """The tensors of a base, as another cut of the same dense network would have them."""

    def __init__(self, base: Stored | None, cut: Cut) -> None:
        self._cut, self._base = cut, base
        self._by_dense = {}
        if base is not None:
            self._by_dense = {name_before(base.cut.lists, n): t for n, t in base.tensors.items()}

    def find(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor | None:
        """The base's tensor of that name, zero where the base had cut; None where none fits."""
        dense = name_before(self._cut.lists, name)
        tensor = self._by_dense.get(dense)
        if self._base is None or tensor is None:
            return None
        if tensor.dtype != dtype or tensor.dim() != len(shape):
            return None
        before, after = self._base.cut.kept.get(dense, {}), self._cut.kept.get(dense, {})
        for dim, size in enumerate(shape):
            had, has = before.get(dim), after.get(dim)
            whole = tensor.shape[dim] if had is None else had.numel()
            if whole != (size if has is None else has.numel()):
                return None
            if had is not has and not (had is not None and has is not None and had.equal(has)):
                if dtype.is_floating_point and dtype.itemsize == 1:
                    return None  # torch cannot move floats of eight bits
                tensor = _moved(tensor, dim, whole, had, has)
        return tensor if tuple(tensor.shape) == shape else None


def _moved(tensor: Tensor, dim: int, whole: int, had: Tensor | None, has: Tensor | None) -> Tensor:
    """From the indices that one cut keeps along a dim to those of another."""
    place = torch.full((whole,), -1)
    place[slice(None) if had is None else had] = torch.arange(tensor.shape[dim])
    wanted = place if has is None else place[has]
    if tensor.shape[dim] == 0:
        return tensor.new_zeros(
            [wanted.numel() if d == dim else s for d, s in enumerate(tensor.shape)]
        )
    found = tensor.index_select(dim, wanted.clamp_min(0))
    return found.index_fill_(dim, (wanted < 0).nonzero().squeeze(1), 0)

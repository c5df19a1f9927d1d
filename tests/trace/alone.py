"""A function run with labels on tensors of its own, and what it did to them, element by element."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from secateur.trace.run import LabelMode, _plain_kernels
from secateur.trace.tape import Tape

Index = npt.NDArray[np.int64]
NOWHERE = -1  # in an array of sources: an element that comes from no input


@dataclass(frozen=True, slots=True, eq=False)
class Ran:
    """What a function left behind; its inputs are named w0, w1, ..."""

    tape: Tape
    inputs: tuple[Tensor, ...]
    out: Any

    @property
    def tensors(self) -> list[Tensor]:
        return [t for t in tree_leaves(self.out) if isinstance(t, Tensor)]

    def leaf(self, name: str, dim: int, index: int) -> int:
        """The id that index `index` of a dim of an input had at the start."""
        for block in self.tape.blocks:
            if (block.name, block.dim) == (name, dim):
                return block.start + index
        raise KeyError((name, dim))

    def root(self, label: int) -> int:
        return int(self.tape.classes.find(np.array([label]))[0])

    def dies(self, label: int) -> bool:
        return not bool(self.tape.classes.immortal(np.array([self.root(label)]))[0])

    def classes(self, position: int, dim: int) -> list[int]:
        """The class of each index of a dim of an input."""
        shape = self.inputs[position].shape
        return [self.root(self.leaf(f"w{position}", dim, i)) for i in range(shape[dim])]

    def pinned(self, position: int, dim: int) -> list[bool]:
        """Which indices of a dim of an input may not leave."""
        return [not self.dies(label) for label in self.classes(position, dim)]

    def untouched(self, position: int = 0) -> bool:
        """Whether every index of every dim of an input is free and a class of its own."""
        dims = [d for d, size in enumerate(self.inputs[position].shape) if size > 1]
        found = [label for d in dims for label in self.classes(position, d)]
        return len(set(found)) == len(found) and all(map(self.dies, found))


def alone(function: Callable[..., Any], *inputs: Tensor | Sequence[int]) -> Ran:
    """Run a function on parameters (given as tensors or shapes) under the labels, without listeners."""
    made = tuple(
        t if isinstance(t, Tensor) else torch.randn(*t, dtype=torch.float64) for t in inputs
    )
    tape = Tape((f"w{i}", tensor) for i, tensor in enumerate(made))
    for tensor in made:
        tape.labels(tensor)
    with _plain_kernels(nn.Identity()), torch.no_grad(), LabelMode(tape):
        out = function(*made)
    return Ran(tape, made, out)


def labels(ran: Ran, tensor: Tensor) -> list[frozenset[int]]:
    """The mortal classes at each element of a tensor, in row-major order."""
    found: list[set[int]] = [set() for _ in range(tensor.numel())]
    for field in ran.tape.labels(tensor).fields:
        assert field.ids.dim() == tensor.dim()
        for element, label in zip(found, field.ids.expand(tensor.shape).flatten(), strict=True):
            if int(label) >= 0 and ran.dies(int(label)):
                element.add(ran.root(int(label)))
    return [frozenset(element) for element in found]


def carried(ran: Ran, sources: Index, position: int = 0) -> list[frozenset[int]]:
    """What `labels` must say where each element is one element of an input, by its flat index."""
    shape = tuple(ran.inputs[position].shape)
    found = []
    for source in sources.ravel():
        if source == NOWHERE:
            found.append(frozenset[int]())
            continue
        at = np.unravel_index(int(source), shape)
        ids = [ran.leaf(f"w{position}", d, int(i)) for d, i in enumerate(at) if shape[d] > 1]
        found.append(frozenset(ran.root(label) for label in ids if ran.dies(label)))
    return found


def numbered(shape: Sequence[int]) -> Index:
    """Flat indices in the shape of a tensor, for numpy to move about."""
    return np.arange(int(np.prod(shape))).reshape(tuple(shape))

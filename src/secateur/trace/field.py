"""Labels of a tensor: for each element, which channel it belongs to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

Leaf = tuple[str, int]  # (parameter or buffer name, dim)


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """One label per element of a tensor, broadcast along the dims where it does not vary.

    Attributes:
        ids: int64 on the CPU, as many dims as the tensor, size 1 where it does not vary.
        zero: with all members masked, the tensor is zero wherever this field's channel is dead.
        leaves: the parameters that entered since the last product; all of them where the tensor is
            computed from parameters alone.
    """

    ids: Tensor
    zero: bool
    leaves: frozenset[Leaf] = frozenset()

    @property
    def dims(self) -> tuple[int, ...]:
        """The dims along which the label varies."""
        return tuple(d for d, size in enumerate(self.ids.shape) if size > 1)

    def over(self, ids: Tensor) -> Field:
        """The same field with other ids, squeezed."""
        return replace(self, ids=squeezed(ids))


@dataclass(slots=True)
class Labels:
    """All fields of a tensor. An element is dead when any field's channel is dead there."""

    fields: list[Field] = field(default_factory=list)
    constant: bool = False  # computed from parameters and buffers alone, not from the example
    extents: dict[int, int] = field(default_factory=dict)  # dim → position in Tape.extents
    version: int = -1  # of the classes when the ids were last looked up
    origin: str | None = None  # the parameter whose elements these are, reordered at most


def squeezed(ids: Tensor) -> Tensor:
    """Narrow to size 1 every dim along which ids do not vary."""
    for d, size in enumerate(ids.shape):
        if size > 1 and _constant_along(ids, d):
            ids = ids.narrow(d, 0, 1)
    return ids


def _constant_along(ids: Tensor, dim: int) -> bool:
    if ids.stride(dim) == 0:  # expanded: nothing need be compared
        return True
    first, last = ids.select(dim, 0), ids.select(dim, ids.shape[dim] - 1)
    # Most that vary differ at the ends already, and comparing those is cheap.
    return torch.equal(first, last) and bool((ids == first.unsqueeze(dim)).all())


def aligned(ids: Tensor, dims: int) -> Tensor:
    """Add leading dims of size 1, as broadcasting does."""
    return ids.reshape((1,) * (dims - ids.dim()) + tuple(ids.shape))


def rows(ids: Tensor, dims: Iterable[int]) -> Tensor:
    """The ids as a matrix: one row per position along `dims`, in row-major order."""
    kept = list(dims)
    rest = [d for d in range(ids.dim()) if d not in kept]
    count = 1
    for d in kept:
        count *= ids.shape[d]
    return ids.permute(*kept, *rest).reshape(count, -1)

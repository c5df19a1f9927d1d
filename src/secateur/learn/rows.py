"""Which units form a row, of which exactly k stay."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from secateur.errors import OptionError
from secateur.types.group import Group


@runtime_checkable
class Rows(Protocol):
    """A way to lay a group's units out in rows."""

    def of(self, group: Group) -> Tensor:
        """int64 (rows, n): the units of each row; every unit of the group is in one row, once."""
        ...


@dataclass(frozen=True, slots=True)
class PerOutput:
    """One row for every output: a neuron's weights, a feature map's kernels or weights.

    Source: Dynamic Probabilistic Pruning, arXiv 2105.12686: "FC weights" and "k kernels per feature
    map".
    """

    def of(self, group: Group) -> Tensor:
        """(outputs, everything that one output reads)."""
        return _units(group).flatten(1)


@dataclass(frozen=True, slots=True)
class PerPosition:
    """One row for every input channel and kernel position: which of the filters use it.

    Source: the authors' first code for convolution weights; logits (C_in, kh * kw, F).
    """

    def of(self, group: Group) -> Tensor:
        """(input channels x positions, filters)."""
        return _units(group).flatten(1).T.contiguous()


@dataclass(frozen=True, slots=True)
class PerKernel:
    """One row for every 2-D kernel: which of its positions are used.

    Source: the authors' code for binary weights; logits (F, C_in, kh * kw).
    """

    def of(self, group: Group) -> Tensor:
        """(filters x input channels, kernel positions)."""
        units = _units(group)
        if units.dim() < 3:
            raise OptionError(
                f"its units lie in {tuple(units.shape)}; there are no kernels of weights",
                where=group.name,
                hint="keep this layer whole (--keep), or rows that it has: PerOutput()",
            )
        return units.flatten(0, 1).flatten(1)


@dataclass(frozen=True, slots=True)
class PerGroup:
    """One row for the whole group: k of its filters, channels or weights."""

    def of(self, group: Group) -> Tensor:
        """(1, all units)."""
        return torch.arange(group.size).unsqueeze(0)


@dataclass(frozen=True, slots=True)
class Tiled:
    """Every row cut into `tiles` of equal width, k of each: cheaper logits, more regular memory access."""

    tiles: int
    rows: Rows = PerOutput()

    def __post_init__(self) -> None:
        if self.tiles < 1:
            raise OptionError(f"{self.tiles} tiles", where="Tiled", hint="Tiled(2)")

    def of(self, group: Group) -> Tensor:
        """(rows x tiles, n / tiles)."""
        rows = self.rows.of(group)
        if rows.shape[1] % self.tiles:
            raise OptionError(
                f"{self.tiles} tiles do not divide rows of {rows.shape[1]} units",
                where=group.name,
                hint="a number of tiles that divides them, or keep this layer whole",
            )
        return rows.reshape(-1, rows.shape[1] // self.tiles)


@dataclass(frozen=True, slots=True)
class Usual:
    """What fits the kind of unit.

    A group with a pattern (k of m) has rows of m; channels and heads are one row; kernels one row an
    output map; weights of a matrix one row an output, those of a convolution one row an input channel and
    kernel position.
    """

    def of(self, group: Group) -> Tensor:
        """By the kind of the group."""
        if group.pattern is not None:
            return torch.arange(group.size).view(-1, group.pattern[1])
        if group.kind not in {"weight", "kernel"}:
            return PerGroup().of(group)
        if group.kind == "weight" and len(group.members[0].shape) > 2:
            return PerPosition().of(group)
        return PerOutput().of(group)


def laid_out(rows: Rows, group: Group) -> Tensor:
    """The rows of a group, int64 (rows, n); those of a pattern are its own blocks.

    Raises:
        OptionError: the rows do not fit the group, or are not the blocks of its pattern.
    """
    laid = rows.of(group)
    if group.pattern is not None and not torch.equal(laid, Usual().of(group)):
        k, n = group.pattern
        raise OptionError(
            f"{rows} are not the blocks of {n} units, of which its pattern keeps {k}",
            where=group.name,
            hint="leave the rows out",
        )
    return laid


def _units(group: Group) -> Tensor:
    """The units where they lie in their only tensor, int64, of the shape of the indexed dims."""
    if len(group.members) != 1 or group.size != len(group.members[0].unit_of):
        raise OptionError(
            f"its {group.kind}s are no elements of one tensor, so they form one row",
            where=group.name,
            hint="PerGroup()",
        )
    member = group.members[0]
    shape = [member.shape[dim] for dim in member.dims]
    if math.prod(shape) != group.size or len(shape) < 2:
        raise OptionError(f"{tuple(shape)} has no rows", where=group.name, hint="PerGroup()")
    return member.unit_of.view(shape)

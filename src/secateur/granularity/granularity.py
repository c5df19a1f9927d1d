"""What a unit is: coupled channels that are cut out, or weights, kernels and blocks that are masked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from secateur.errors import OptionError
from secateur.granularity.keep import kept_parameters
from secateur.trace.groups import coupled_channels
from secateur.trace.groups import weights as weights_of
from secateur.types.group import Fixed, Group, Groups, Member, Role

Keep = Sequence[str | nn.Module]


@runtime_checkable
class Granularity(Protocol):
    """A kind of unit. `find` returns the groups of a network; it leaves the network as it was."""

    def find(self, model: nn.Module, example: Any) -> Groups:
        """All groups of units of this kind."""
        ...


@dataclass(frozen=True, slots=True)
class Channels:
    """Coupled channels, physically removable: filters with all that reads, scales or adds them.

    Args:
        keep: modules, names or globs whose channels all stay; a name that matches nothing is an error.
    """

    keep: Keep = ()

    def find(self, model: nn.Module, example: Any) -> Groups:
        """One group for every set of layers whose channels must leave together."""
        return coupled_channels(model, example, kept_parameters(model, self.keep))


@dataclass(frozen=True, slots=True)
class Heads:
    """Attention heads, physically removable: the rows of queries, keys and values with what reads them.

    A head is found where two activations are multiplied head by head, in code written out as in
    `nn.MultiheadAttention`. Heads that share what they attend to (grouped queries) leave together.
    All other channels stay.

    Args:
        keep: modules, names or globs whose heads all stay; a name that matches nothing is an error.
    """

    keep: Keep = ()

    def find(self, model: nn.Module, example: Any) -> Groups:
        """One group for every set of attentions whose heads must leave together."""
        return coupled_channels(model, example, kept_parameters(model, self.keep), heads=True)


@dataclass(frozen=True, slots=True)
class Weights:
    """Single weights of everything that multiplies: (O, I, ...) → O·I·... units a layer, masked only."""

    keep: Keep = ()

    def find(self, model: nn.Module, example: Any) -> Groups:
        """One group a weight tensor; unit i is element i in row-major order."""
        return _masked_groups(model, example, self.keep, "weight", lambda shape: (
            tuple(range(len(shape))), torch.arange(math.prod(shape)), None))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kernels:
    """2-D kernels of convolutions: (O, I, kh, kw) → O·I units a layer, masked only."""

    keep: Keep = ()

    def find(self, model: nn.Module, example: Any) -> Groups:
        """One group a convolution weight; unit i is kernel (i // I, i % I)."""
        return _masked_groups(model, example, self.keep, "kernel", lambda shape: (
            None if len(shape) < 3 else ((0, 1), torch.arange(shape[0] * shape[1]), None)))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Block:
    """Exactly `k` of every `n` consecutive weights along a dim: `Block(2, 4)` is 2:4 sparsity.

    Args:
        dim: the dim along which n weights in a row form a block; 1 is the input dim of Linear and
            convolutions. Tensors whose size along it is no multiple of n are reported as fixed.
    """

    k: int
    n: int
    dim: int = 1
    keep: Keep = ()

    def __post_init__(self) -> None:
        if not 1 <= self.k <= self.n:
            raise OptionError(
                f"k of n must have 1 <= k <= n, found {self.k} of {self.n}", where="Block"
            )

    def find(self, model: nn.Module, example: Any) -> Groups:
        """One group a weight tensor; its units are ordered so that n consecutive ones are a block."""

        def layout(shape: tuple[int, ...]) -> Layout | None:
            dim = self.dim + len(shape) if self.dim < 0 else self.dim
            if not 0 <= dim < len(shape) or shape[dim] % self.n:
                return None
            order = torch.arange(math.prod(shape)).reshape(shape).movedim(dim, -1).reshape(-1)
            unit_of = torch.empty_like(order)
            unit_of[order] = torch.arange(len(order))
            return tuple(range(len(shape))), unit_of, (self.k, self.n)

        return _masked_groups(model, example, self.keep, "weight", layout)


Layout = tuple[tuple[int, ...], Tensor, tuple[int, int] | None]  # dims, unit_of, pattern


def _masked_groups(model: nn.Module, example: Any, keep: Keep, kind: str, layout: Any) -> Groups:
    """A group for every weight of a product, laid out by `layout(shape)`; None where it does not fit."""
    kept = kept_parameters(model, keep)
    base = weights_of(model, example)
    groups, fixed = [], []
    for name in dict.fromkeys(c.weight for c in base.contractions if c.weight):
        shape = base.shapes[name]
        if name not in base.parameters:
            continue
        if name in kept:
            fixed.append(Fixed(name, math.prod(shape), "keep", "", "was asked to stay"))
            continue
        laid = layout(shape)
        if laid is None:
            why = f"its shape {tuple(shape)} does not divide into units of this kind"
            fixed.append(Fixed(name, math.prod(shape), kind, "", why))
            continue
        dims, unit_of, pattern = laid
        member = Member(name, tuple(shape), dims, unit_of, Role.WRITES)
        size = int(unit_of.max()) + 1
        groups.append(
            Group(
                name.removesuffix(".weight"),
                kind,
                size,
                (member,),
                pattern=pattern,
                removable=False,
            )
        )
    return Groups(
        tuple(groups),
        tuple(fixed),
        base.shapes,
        base.parameters,
        base.extents,
        base.contractions,
        (),
    )

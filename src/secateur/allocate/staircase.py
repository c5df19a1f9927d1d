"""How deep every group goes, as one alpha for all of them rises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.allocate.coupled import Coupled
from secateur.allocate.tolerance_of_difference import places, smallest_alphas


@dataclass(frozen=True, slots=True, eq=False)
class Stairs:
    """One group: the alphas at which its layers lose units.

    Attributes:
        layers: the weights that were scored one by one; empty where the group is one layer.
        places: int64 (layers, n): where each unit stands in a layer's order of removal.
        depths: int64 (d,): how many units may leave, ascending from 1.
        alphas: float64 (layers, d): the smallest alpha at which so many leave, never falling.
    """

    layers: tuple[str, ...]
    places: Tensor
    depths: Tensor
    alphas: Tensor

    def depth(self, alpha: float | None) -> Tensor:
        """m*(alpha) of each layer: int64 (layers,); 0 for None, below every alpha."""
        if alpha is None:
            return self.places.new_zeros(len(self.places))
        taken = (self.alphas <= alpha).sum(-1)
        return torch.cat([self.depths.new_zeros(1), self.depths])[taken]

    def mask(self, alpha: float | None, coupled: Coupled) -> Tensor:
        """What stays: bool (n,)."""
        depth = self.depth(alpha)
        if len(depth) == 1:
            return self.places[0] >= depth[0]
        return coupled.kept(self.places, depth)


def stairs(
    removal: Sequence[Tensor], protect: Sequence[Tensor], depths: Tensor, layers: Sequence[str] = ()
) -> Stairs:
    """The stairs of one group.

    Args:
        removal: (n,) for each layer: the lowest leave first.
        protect: (n,) for each layer: the highest are protected first.
        depths: int64 (d,): how many units may leave, ascending from 1.
    """
    lowest, highest = torch.stack(list(removal)), torch.stack(list(protect))
    alphas = smallest_alphas(lowest, highest, depths)
    return Stairs(tuple(layers), places(lowest), depths, alphas)


@dataclass(frozen=True, slots=True, eq=False)
class Staircase:
    """All groups: one step for every alpha at which something changes.

    Attributes:
        stairs: by group.
        fixed: group name → bool (n,), of groups that keep the same whatever alpha is.
        coupled: which units leave groups of several layers.
        alphas: float64 (steps,): rising.
    """

    stairs: Mapping[str, Stairs]
    fixed: Mapping[str, Tensor]
    coupled: Coupled
    alphas: Tensor

    @property
    def steps(self) -> int:
        """How many there are."""
        return self.alphas.numel()

    def alpha(self, steps: int) -> float | None:
        """The alpha of a step; None before the first, where no alpha is small enough."""
        return float(self.alphas[steps - 1]) if steps else None

    def step(self, alpha: float) -> int:
        """How many steps an alpha takes."""
        return int((self.alphas <= alpha).sum())

    def masks(self, steps: int) -> dict[str, Tensor]:
        """What is left after so many steps: group name → bool (n,)."""
        alpha = self.alpha(steps)
        moving = {name: one.mask(alpha, self.coupled) for name, one in self.stairs.items()}
        return {**self.fixed, **moving}


def staircase(
    stairs: Mapping[str, Stairs], fixed: Mapping[str, Tensor], coupled: Coupled
) -> Staircase:
    """The staircase of these groups."""
    every = [one.alphas.flatten() for one in stairs.values()]
    return Staircase(stairs, fixed, coupled, torch.cat(every or [torch.empty(0)]).unique())

"""The widths that a group may be given, each with what it keeps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.allocate.widths import least_kept
from secateur.types.group import Group


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """One group: how many of its units leave, the lowest scores first; level 0 loses none.

    Attributes:
        group: whose units they are.
        scores: float64 (n,): what each unit is worth.
        leaving: int64 (n,): all units, first to go first; of equal scores the lower index.
        gone: int64 (l,): how many are gone at each level, rising from 0.
        saliency: float64 (l,): the sum of the scores that stay at each level.
    """

    group: Group
    scores: Tensor
    leaving: Tensor
    gone: Tensor
    saliency: Tensor

    def __len__(self) -> int:
        return self.gone.numel()

    def mask(self, level: int) -> Tensor:
        """What stays: bool (n,)."""
        return self.without(int(self.gone[level]))

    def without(self, gone: int) -> Tensor:
        """What stays when so many are gone: bool (n,)."""
        mask = torch.ones(self.group.size, dtype=torch.bool)
        mask[self.leaving[:gone]] = False
        return mask

    def masks(self) -> Tensor:
        """What stays at every level: bool (l, n)."""
        return torch.stack([self.mask(level) for level in range(len(self))])

    def nearest(self, gone: int) -> int:
        """The first level at which at least so many are gone; the last one if there is none."""
        return min(int((self.gone < gone).sum()), len(self) - 1)


def levels(group: Group, scores: Tensor, *, floor: int | float, round_to: int, most: int) -> Levels:
    """The levels of a group without a pattern.

    Args:
        scores: (n,), higher is more worth keeping.
        floor, round_to: as in `Ranked`.
        most: how many levels there may be; of more widths some are left out, evenly.
    """
    ordered, leaving = scores.double().sort(stable=True)
    least = max(least_kept(group.size, floor), group.least.units)
    narrowest = math.ceil(least / round_to) * round_to
    widths = torch.tensor(range(narrowest, group.size, round_to), dtype=torch.int64)
    gone = torch.cat([torch.zeros(1, dtype=torch.int64), (group.size - widths).flip(0)])
    if gone.numel() > most:
        gone = gone[torch.linspace(0, gone.numel() - 1, most).round().long()]
    sums = torch.cat([ordered.new_zeros(1), ordered.cumsum(0)])
    return Levels(group, scores.double(), leaving, gone, sums[-1] - sums[gone])

"""One group by its widths: what stays at each of them, and what is lost."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from secateur.types.group import Group


class Stair(NamedTuple):
    """A group whose units leave in one order, the lowest scores first."""

    group: Group
    leaving: Tensor  # int64 (n,): all units, first to go first
    left: Tensor  # float64 (n,): the saliency that stays when so many are gone; above zero
    widths: list[int]  # descending

    def mask(self, width: int) -> Tensor:
        """What stays at a width: bool (n,)."""
        mask = torch.ones(self.group.size, dtype=torch.bool)
        mask[self.leaving[: self.group.size - width]] = False
        return mask

    def loss(self, width: int, since: int | None = None) -> float:
        """T log(s / t), where all units have the saliency T, and t of s is kept.

        Args:
            since: the width at which s is kept; None: s is T.
        """
        before = self.left[0 if since is None else self.group.size - since]
        return float(self.left[0] * (before / self.left[self.group.size - width]).log())


def stair_of(group: Group, scores: Tensor, widths: list[int]) -> Stair:
    """The stair of a group.

    Args:
        scores: float64 (n,), higher is more worth keeping.
        widths: descending, from 1.
    """
    ascending, leaving = scores.sort(stable=True)
    worth = ascending - ascending[0].clamp(max=0.0)  # no share of a sum with negative parts
    if not bool(worth.any()):
        worth = torch.ones_like(worth)
    return Stair(group, leaving, worth.flip(0).cumsum(0).flip(0), widths)

"""The same fraction of every group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.allocate.checked import check_limits, scores_of
from secateur.allocate.goals import Goal
from secateur.allocate.interleave import interleave
from secateur.allocate.order import Choice, Order, shortest
from secateur.types.group import Groups
from secateur.types.scores import Scores


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every group loses the same fraction, rounded to whole units; its lowest scores leave first.

    Where a fraction falls between two units, groups round one after the other, so that a budget is
    met to within one unit of one group.

    Attributes:
        by: the saliency whose scores count; they are compared inside a group only.
        floor: what stays of every group: a fraction of it (float) or a number of units (int).
        round_to: widths become multiples of this. Units
            leave in blocks of as many. A group that loses nothing keeps its width.
    """

    by: str
    floor: int | float = 1
    round_to: int = 1

    def __post_init__(self) -> None:
        check_limits(self.floor, self.round_to, "Uniform")

    def order(self, groups: Groups, scores: Scores) -> Order:
        """All removals, first to go first; of equal scores the lower index."""
        values = scores_of(groups, scores, self.by)
        return interleave(groups, values, _fractions, floor=self.floor, round_to=self.round_to)

    def choose(self, groups: Groups, scores: Scores, wanted: Sequence[Goal]) -> Choice:
        """As few removals as meet every goal; a tighter one keeps nothing a looser one drops."""
        return Choice(shortest(self.order(groups, scores), wanted))


def _fractions(ascending: Tensor) -> Tensor:
    """The share of its group that is gone when half of each unit has left."""
    size = ascending.numel()
    return (torch.arange(size, dtype=torch.float64) + 0.5) / size

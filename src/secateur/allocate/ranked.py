"""One ranking over all groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from secateur.allocate.checked import check_limits, scores_of
from secateur.allocate.goals import Goal
from secateur.allocate.interleave import interleave
from secateur.allocate.order import Choice, Order, shortest
from secateur.types.group import Groups
from secateur.types.scores import Scores


@dataclass(frozen=True, slots=True)
class Ranked:
    """The lowest scores of the whole network leave first.

    Scores of different groups must therefore be comparable: Taylor's are, all being changes of one
    loss; norms of layers of different shape are not.

    Attributes:
        by: the saliency whose scores count.
        floor: what stays of every group: a fraction of it (float) or a number of units (int).
        round_to: widths become multiples of this. Units
            leave in blocks of as many, and a block's place in the ranking is its mean score. A
            group that loses nothing keeps its width.
    """

    by: str
    floor: int | float = 1
    round_to: int = 1

    def __post_init__(self) -> None:
        check_limits(self.floor, self.round_to, "Ranked")

    def order(self, groups: Groups, scores: Scores) -> Order:
        """All removals, first to go first; of equal scores the earlier group, the lower index."""
        values = scores_of(groups, scores, self.by)
        return interleave(
            groups, values, lambda ascending: ascending, floor=self.floor, round_to=self.round_to
        )

    def choose(self, groups: Groups, scores: Scores, wanted: Sequence[Goal]) -> Choice:
        """As few removals as meet every goal; a tighter one keeps nothing a looser one drops."""
        return Choice(shortest(self.order(groups, scores), wanted))

"""Widths at which a latency falls: what loses least for the time that it saves leaves first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from secateur.allocate.checked import check_limits, scores_of
from secateur.allocate.exchange import exchanged
from secateur.allocate.goals import Goal
from secateur.allocate.order import Choice, Order, shortest
from secateur.allocate.patterned import before_all
from secateur.allocate.stair import Stair, stair_of
from secateur.allocate.widths import least_kept
from secateur.cost.prices import Prices
from secateur.cost.surface import axis
from secateur.errors import BudgetError
from secateur.types.group import Group, Groups
from secateur.types.scores import Scores


@dataclass(frozen=True, slots=True)
class Steps:
    """Groups jump from one measured width to a smaller one, the cheapest jump of all first.

    Kernels work on several channels at once, so time falls in steps, and a unit more or less saves
    nothing. Of every group and every smaller width that was measured, the jump is taken that loses
    least for the time that it saves in all layers around it; a jump that saves no time is never
    taken. Inside a group the lowest scores leave first. Widths of one group or of two are then
    changed as long as that loses less and the budgets hold, so that what costs no time stays. Budgets
    that are tighter may keep units that looser ones drop.

    What a group loses is T log(T / t), where it keeps the saliency t of T. That is the sum of the
    scores that leave, T - t, while few do, and more when little is left: scores of single units do
    not know what else is gone. Scores of different groups must be comparable, as for `Ranked`. It
    needs the prices of a `LayerTable`, and so one budget at least that is a latency.

    Attributes:
        by: the saliency whose scores count.
        floor: what stays of every group: a fraction of it (float) or a number of units (int).
    """

    by: str
    floor: int | float = 1

    def __post_init__(self) -> None:
        check_limits(self.floor, 1, "Steps")

    def order(self, groups: Groups, scores: Scores, prices: Prices) -> Order:
        """All jumps, first to go first; of equal ones the earlier group, the larger width."""
        values = scores_of(groups, scores, self.by)
        when = before_all(groups, values)
        stairs = self._stairs(groups, values)
        near = {stair.group.name: _near(groups, stair.group, prices) for stair in stairs}
        masks = {name: one >= 0 for name, one in when.items()}
        best: dict[str, _Jump | None] = {}
        steps = 0
        while True:
            for stair in stairs:
                if stair.group.name not in best:
                    best[stair.group.name] = _best(groups, stair, masks, near[stair.group.name])
            found = [jump for stair in stairs if (jump := best[stair.group.name]) is not None]
            if not found:
                return Order(when, steps)
            jump = min(found, key=lambda one: one.loss)
            when[jump.group][masks[jump.group] & ~jump.mask] = steps
            masks[jump.group] = jump.mask
            for name in near[jump.group].groups:
                best.pop(name, None)
            steps += 1

    def choose(self, groups: Groups, scores: Scores, wanted: Sequence[Goal]) -> Choice:
        """As few jumps as meet every goal, and then what widths in exchange for others lose less.

        Raises:
            BudgetError: the goals cannot be met so, or none of them is a latency with prices.
        """
        prices = next((goal.prices for goal in wanted if goal.prices is not None), None)
        if prices is None:
            raise BudgetError(
                "without measured layers there are no steps to go by",
                where=", ".join(str(goal.budget) for goal in wanted) or "Steps",
                hint="a budget of latency on a runtime by name; sec.allocate(..., prices=...)",
            )
        masks = shortest(self.order(groups, scores, prices), wanted)
        stairs = self._stairs(groups, scores_of(groups, scores, self.by))
        return Choice(exchanged(groups, stairs, masks, wanted, prices))

    def _stairs(self, groups: Groups, values: Mapping[str, Tensor]) -> list[Stair]:
        return [
            stair_of(g, values[g.name].double(), self._widths(g))
            for g in groups
            if g.pattern is None
        ]

    def _widths(self, group: Group) -> list[int]:
        least = max(least_kept(group.size, self.floor), group.least.units)
        return [width for width in reversed(axis(group.size)) if width >= least]


class _Jump(NamedTuple):
    group: str
    mask: Tensor  # what is left after it
    loss: float  # for each second


class _Near(NamedTuple):
    prices: Prices  # of the layers that a group is part of
    groups: tuple[str, ...]  # those that are part of these layers too, and itself


def _near(groups: Groups, group: Group, prices: Prices) -> _Near:
    own = {member.name for member in group.members}
    layers = tuple((one, surface) for one, surface in prices.layers if one.weight in own)
    weights = {one.weight for one, _ in layers}
    beside = [g.name for g in groups if g is group or weights & {m.name for m in g.members}]
    return _Near(Prices(layers), tuple(beside))


def _best(groups: Groups, one: Stair, masks: Mapping[str, Tensor], near: _Near) -> _Jump | None:
    """The group's cheapest jump; None where nothing is left that saves time."""
    around = {name: masks[name] for name in near.groups}
    return min(_jumps(groups, one, around, near.prices), key=lambda jump: jump.loss, default=None)


def _jumps(
    groups: Groups, stair: Stair, around: Mapping[str, Tensor], prices: Prices
) -> Iterator[_Jump]:
    name = stair.group.name
    now, left = prices.seconds(groups, around), int(around[name].sum())
    for width in stair.widths:
        if width >= left:
            continue
        mask = stair.mask(width)
        saved = now - prices.seconds(groups, {**around, name: mask})
        if saved > 0.0:
            yield _Jump(name, mask, stair.loss(width, left) / saved)

"""Widths at which a latency falls: what loses least for the time that it saves leaves first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from secateur.allocate.checked import check_limits, scores_of
from secateur.allocate.goals import Goal
from secateur.allocate.order import Choice, Order, shortest
from secateur.allocate.patterned import before_all
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
    taken. Inside a group the lowest scores leave first.

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
        stairs = [
            _stair(g, values[g.name].double(), self._widths(g)) for g in groups if g.pattern is None
        ]
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
        """As few jumps as meet every goal; a tighter one keeps nothing a looser one drops.

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
        return Choice(shortest(self.order(groups, scores, prices), wanted))

    def _widths(self, group: Group) -> list[int]:
        least = max(least_kept(group.size, self.floor), group.least.units)
        return [width for width in reversed(axis(group.size)) if width >= least]


class _Stair(NamedTuple):
    group: Group
    leaving: Tensor  # int64 (n,): all units, first to go first
    left: Tensor  # float64 (n,): the saliency that stays when so many are gone; above zero
    widths: list[int]  # descending


class _Jump(NamedTuple):
    group: str
    mask: Tensor  # what is left after it
    loss: float  # for each second


def _stair(group: Group, scores: Tensor, widths: list[int]) -> _Stair:
    ascending, leaving = scores.sort(stable=True)
    worth = ascending - ascending[0].clamp(max=0.0)  # no share of a sum with negative parts
    if not bool(worth.any()):
        worth = torch.ones_like(worth)
    return _Stair(group, leaving, worth.flip(0).cumsum(0).flip(0), widths)


class _Near(NamedTuple):
    prices: Prices  # of the layers that a group is part of
    groups: tuple[str, ...]  # those that are part of these layers too, and itself


def _near(groups: Groups, group: Group, prices: Prices) -> _Near:
    own = {member.name for member in group.members}
    layers = tuple((one, surface) for one, surface in prices.layers if one.weight in own)
    weights = {one.weight for one, _ in layers}
    beside = [g.name for g in groups if g is group or weights & {m.name for m in g.members}]
    return _Near(Prices(layers), tuple(beside))


def _best(groups: Groups, stair: _Stair, masks: Mapping[str, Tensor], near: _Near) -> _Jump | None:
    """The group's cheapest jump; None where nothing is left that saves time."""
    around = {name: masks[name] for name in near.groups}
    return min(_jumps(groups, stair, around, near.prices), key=lambda one: one.loss, default=None)


def _jumps(
    groups: Groups, stair: _Stair, around: Mapping[str, Tensor], prices: Prices
) -> Iterator[_Jump]:
    name, left = stair.group.name, stair.left
    now, before = prices.seconds(groups, around), int((~around[name]).sum())
    for width in stair.widths:
        gone = stair.group.size - width
        if gone <= before:
            continue
        mask = torch.ones(stair.group.size, dtype=torch.bool)
        mask[stair.leaving[:gone]] = False
        saved = now - prices.seconds(groups, {**around, name: mask})
        if saved > 0.0:
            loss = float(left[0] * (left[before] / left[gone]).log())
            yield _Jump(name, mask, loss / saved)

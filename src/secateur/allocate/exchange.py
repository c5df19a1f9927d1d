"""Widths chosen together: one group gives way where that lets another keep more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from torch import Tensor

from secateur.allocate.goals import Goal
from secateur.allocate.stair import Stair
from secateur.cost.prices import Prices
from secateur.types.group import Groups

_NOTHING = 1e-9  # of what all groups can lose: a gain that is none

Widths = dict[str, int]
"""Group name → units that stay."""


def exchanged(
    groups: Groups,
    stairs: Sequence[Stair],
    masks: Mapping[str, Tensor],
    wanted: Sequence[Goal],
    prices: Prices,
) -> dict[str, Tensor]:
    """Masks that meet every goal as these do, and lose no more.

    Again and again the widths of one group or of two are changed, whichever change gains most of
    those after which every goal is met, until none gains anything. So no group stays narrower than
    the goals ask for, and nothing is missing that costs no time.

    Args:
        masks: group name → bool (n,): they meet the goals, and stand at widths of their stairs.
        prices: what layers take, by which most changes are ruled out without counting anew.
    """
    times = _Times(groups, stairs, prices, masks)
    by_name = {one.group.name: one for one in stairs}
    losses = {
        name: {width: one.loss(width) for width in {one.group.size, *one.widths}}
        for name, one in by_name.items()
    }
    least = _NOTHING * sum(max(each.values()) for each in losses.values())
    limit = min(goal.budget.limit(goal.dense) for goal in wanted if goal.prices is not None)
    now = {name: int(masks[name].sum()) for name in by_name}
    while True:
        gains = _gains(losses, now, least)
        room = limit * (1 + 1e-12) - times.all(now)
        for _, _, change in sorted(gains, key=lambda one: one[:2]):
            if times.more(now, change) > room:
                continue
            wider = {name: by_name[name].mask(width) for name, width in change.items()}
            if all(goal.met({**masks, **wider}) for goal in wanted):
                now, masks = {**now, **change}, {**masks, **wider}
                break
        else:
            return dict(masks)


def _gains(
    losses: Mapping[str, Mapping[int, float]], now: Widths, least: float
) -> list[tuple[float, int, Widths]]:
    """Every change of one or two widths that gains: (minus the gain, its place, the change)."""
    single = [
        (name, width, each[now[name]] - loss)
        for name, each in losses.items()
        for width, loss in each.items()
        if width != now[name]
    ]

    def every() -> Iterator[tuple[float, Widths]]:
        for name, width, gain in single:
            yield gain, {name: width}
        for (one, width, gain), (other, also, more) in combinations(single, 2):
            if one != other:
                yield gain + more, {one: width, other: also}

    return [(-gain, i, change) for i, (gain, change) in enumerate(every()) if gain > least]


class _Times:
    """What layers take at the widths of their groups, each counted once."""

    def __init__(
        self,
        groups: Groups,
        stairs: Sequence[Stair],
        prices: Prices,
        masks: Mapping[str, Tensor],
    ) -> None:
        names = {one.group.name for one in stairs}
        self._groups = groups
        self._stairs = {one.group.name: one for one in stairs}
        self._layers = [Prices((one,)) for one in prices.layers]
        part_of: dict[str, set[str]] = {}  # weight → the groups that it is part of
        for group in groups:
            for member in group.members:
                part_of.setdefault(member.name, set()).add(group.name)
        around = [part_of.get(one.weight, set()) for one, _ in prices.layers]
        self._of = [sorted(some & names) for some in around]
        self._fixed = [{n: masks[n] for n in some - names if n in masks} for some in around]
        self._at = {name: [i for i, some in enumerate(self._of) if name in some] for name in names}
        self._known: dict[tuple[int, ...], float] = {}

    def all(self, widths: Widths) -> float:
        """Seconds of all layers."""
        return sum(self._one(i, widths) for i in range(len(self._layers)))

    def more(self, widths: Widths, change: Widths) -> float:
        """Seconds that a change of some widths adds."""
        after = {**widths, **change}
        touched = {i for name in change for i in self._at[name]}
        return sum(self._one(i, after) - self._one(i, widths) for i in sorted(touched))

    def _one(self, i: int, widths: Widths) -> float:
        key = (i, *(widths[name] for name in self._of[i]))
        if key not in self._known:
            masks = {name: self._stairs[name].mask(widths[name]) for name in self._of[i]}
            self._known[key] = self._layers[i].seconds(self._groups, {**self._fixed[i], **masks})
        return self._known[key]

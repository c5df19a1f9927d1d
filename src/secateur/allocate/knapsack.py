"""As much saliency as the budgets have room for: widths chosen together, by a solver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.allocate.checked import check_limits, scores_of
from secateur.allocate.forms import FORMS
from secateur.allocate.goals import Goal
from secateur.allocate.levels import Levels, levels
from secateur.allocate.order import Choice
from secateur.allocate.patterned import patterned
from secateur.allocate.priced import priced
from secateur.allocate.program import Limit, solve
from secateur.allocate.ranked import Ranked
from secateur.errors import BudgetError, OptionError
from secateur.types.group import Groups
from secateur.types.scores import Scores


@dataclass(frozen=True, slots=True)
class Knapsack:
    """Keeps the most saliency that fits into all budgets at once.

    `Ranked` removes what is worth least, whatever it costs; here a unit is also judged by what it
    costs, and a layer's cost depends on the widths around it. Inside a group the lowest scores leave
    first; how many leave of which group is a mixed-integer program (HiGHS), whose answer keeps at least
    what `Ranked` keeps. Then what still fits is put back, one unit at a time, unless its score is below
    zero. `Plan.about` says what
    was kept and what the solver proved to be the most that any choice of its widths could keep.

    Scores of different groups must be comparable, as for `Ranked`. Budgets that are tighter may keep
    units that looser ones drop.

    Attributes:
        by: the saliency whose scores count.
        floor: what stays of every group: a fraction of it (float) or a number of units (int).
        round_to: widths become multiples of this. A group that loses nothing keeps its width.
        levels: widths of a group that the solver chooses from, evenly spread.
        gap: it stops where no choice can keep this fraction more than what it has.
        nodes: of branch and bound, at most; not seconds, so that equal inputs give equal plans.
    """

    by: str
    floor: int | float = 1
    round_to: int = 1
    levels: int = 8
    gap: float = 1e-3
    nodes: int = 20

    def __post_init__(self) -> None:
        check_limits(self.floor, self.round_to, "Knapsack")
        for name, least in (("levels", 2), ("nodes", 1)):
            value: object = getattr(self, name)
            if type(value) is not int or value < least:
                raise OptionError(
                    f"{name}={value!r} is not a whole number from {least}", where="Knapsack"
                )
        if not 0.0 <= self.gap < 1.0:
            raise OptionError(f"gap={self.gap!r} is no fraction", where="Knapsack")

    def choose(self, groups: Groups, scores: Scores, wanted: Sequence[Goal]) -> Choice:
        """Widths by the solver, then what still fits.

        Raises:
            BudgetError: the budgets cannot be met, there is none, or one cannot be counted.
            MissingExtraError: the solver is not installed.
        """
        for goal in wanted:
            if goal.budget.quantity not in FORMS and goal.prices is None:
                raise BudgetError(
                    f"{goal.budget.quantity} is no sum over layers",
                    where=str(goal.budget),
                    hint=f"Knapsack counts {', '.join(FORMS)}, and latency where it is given prices",
                )
        ranked = Ranked(self.by, self.floor, self.round_to).choose(groups, scores, wanted).masks
        values = scores_of(groups, scores, self.by)
        fixed = {
            g.name: patterned(g, values[g.name], *g.pattern)
            for g in groups
            if g.pattern is not None
        }
        room = {
            g.name: levels(
                g,
                values[g.name],
                floor=self.floor,
                round_to=self.round_to,
                most=self.levels,
            )
            for g in groups
            if g.pattern is None
        }
        if not wanted or not room:
            return Choice(ranked)
        # of what the dense network has none of, no plan has any
        limits = [_limit(groups, goal, room, fixed) for goal in wanted if goal.dense]
        start = {name: one.nearest(int((~ranked[name]).sum())) for name, one in room.items()}
        found = solve(room, limits, start, gap=self.gap, nodes=self.nodes)
        starts = [
            {name: int(room[name].gone[level]) for name, level in found.chosen.items()},
            {name: int((~ranked[name]).sum()) for name in room},
        ]
        filled = [
            {**fixed, **_masks(room, _filled(room, gone, fixed, wanted, self.round_to))}
            for gone in starts
            if _met({**fixed, **_masks(room, gone)}, wanted)
        ]
        masks = max(filled, key=lambda some: _saliency(values, some, room))
        kept = _saliency(values, masks, room)
        told = {
            "kept saliency": kept,
            "most that its widths could keep": max(found.bound, kept),
            "ranked keeps": _saliency(values, ranked, room),
            "all": _saliency(values, {}, room),
        }
        return Choice({g.name: masks[g.name] for g in groups}, {"knapsack": told})


def _limit(
    groups: Groups, goal: Goal, room: Mapping[str, Levels], fixed: Mapping[str, Tensor]
) -> Limit:
    if goal.prices is not None:
        products = priced(groups, goal.prices, room, fixed)
    else:
        products = FORMS[goal.budget.quantity](groups, room, fixed)
    return Limit(products, goal.budget.limit(goal.dense))


def _masks(room: Mapping[str, Levels], gone: Mapping[str, int]) -> dict[str, Tensor]:
    return {name: one.without(gone[name]) for name, one in room.items()}


def _met(masks: Mapping[str, Tensor], wanted: Sequence[Goal]) -> bool:
    return all(goal.met(masks) for goal in wanted)


def _filled(
    room: Mapping[str, Levels],
    gone: Mapping[str, int],
    fixed: Mapping[str, Tensor],
    wanted: Sequence[Goal],
    round_to: int,
) -> dict[str, int]:
    """Put units back, the highest scores first, until of no group one more fits or is worth it."""
    gone, open_groups = dict(gone), {name for name in room if gone[name]}
    mean = {name: _next(room[name], gone[name], round_to) for name in open_groups}
    while open_groups:
        name = max(sorted(open_groups), key=mean.__getitem__)
        if mean[name] < 0.0:
            break
        fewer = gone[name] - _step(room[name], gone[name], round_to)
        if _met({**fixed, **_masks(room, {**gone, name: fewer})}, wanted):
            gone[name] = fewer
        else:
            open_groups.discard(name)  # what does not fit now will not fit when there is more
        if not gone[name]:
            open_groups.discard(name)
        if name in open_groups:
            mean[name] = _next(room[name], gone[name], round_to)
    return gone


def _step(one: Levels, gone: int, block: int) -> int:
    """How many units come back together: the last of them make the group whole."""
    return min(block - (one.group.size - gone) % block, gone)


def _next(one: Levels, gone: int, block: int) -> float:
    """The mean score of what would come back next."""
    step = _step(one, gone, block)
    back = one.leaving[gone - step : gone]
    return float(one.scores[back].mean())


def _saliency(
    values: Mapping[str, Tensor], masks: Mapping[str, Tensor], room: Mapping[str, Levels]
) -> float:
    """What is kept in all groups that can lose units."""
    sums = [values[n][masks[n]] if n in masks else values[n] for n in room]
    return float(torch.cat(sums).double().sum())

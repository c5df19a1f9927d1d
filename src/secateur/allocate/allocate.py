"""From scores and budgets to a plan."""

from __future__ import annotations

from collections.abc import Sequence

from secateur.allocate.goals import goals
from secateur.allocate.order import Allocator
from secateur.cost.prices import Prices
from secateur.cost.verdict import verdict
from secateur.errors import PlanError
from secateur.types.budget import Budget
from secateur.types.group import Groups
from secateur.types.plan import Plan
from secateur.types.scores import Scores


def allocate(
    groups: Groups,
    scores: Scores,
    how: Allocator,
    to: Budget | str | Sequence[Budget | str] | None = None,
    *,
    prices: Prices | None = None,
) -> Plan:
    """Choose which units stay, so that the budget holds.

    Budgets are met from below to within one unit of one group (one block with `round_to`): putting
    back what left last would break one of them. Of equal scores the lower index leaves first, so
    equal inputs give equal plans on any machine. Groups with a pattern keep exactly k of every m,
    whatever the budget.

    Args:
        scores: higher is more worth keeping; finite.
        how: `Uniform(by="magnitude")`, `Ranked(by="taylor")`, ...
        to: what must hold afterwards, as what is kept: one budget or several, or their text; None
            where the allocator or the groups' patterns say by themselves what leaves.
        prices: times of the network's layers, as a `LayerTable` has them: a latency is then the sum
            of what they say, which is no measurement of the network.

    Raises:
        BudgetError: a budget cannot be met, and carries the nearest value that can; or it must be
            measured, or there is none where one is needed.
        PlanError: nothing can or needs to be removed.
        UnknownNameError: there are no scores of a name that `how` goes by.
        ScoreError: scores are missing, too few, or not finite.
    """
    if len(groups) == 0:
        raise PlanError(
            "there is no unit to remove",
            hint="print(groups), or secateur inspect with the same granularity, says what was found",
        )
    wanted = goals(groups, to, prices)
    choice = how.choose(groups, scores, wanted)
    masks = choice.masks
    if all(bool(mask.all()) for mask in masks.values()):
        asked = ", ".join(str(goal.budget) for goal in wanted)
        raise PlanError(
            "nothing needs to go: the dense network is within the budget"
            if wanted
            else "nothing can go",
            where=asked,
            hint="a budget says what is kept, as in macs=0.5",
        )
    verdicts = [
        verdict(goal.budget, goal.dense, goal.count(masks)) | {"dense": goal.dense}
        for goal in wanted
    ]
    about = {"allocator": str(how), "budgets": verdicts, "scores": dict(scores.about)}
    return Plan(groups, masks, {**about, **choice.about})

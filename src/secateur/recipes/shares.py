"""How many units of every row may stay, so that budgets hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from secateur.allocate import Goal, goals
from secateur.errors import BudgetError, PlanError
from secateur.learn.rows import Rows, laid_out
from secateur.types.budget import Budget
from secateur.types.group import Group, Groups


def units_per_row(groups: Groups, rows: Rows, budgets: Sequence[Budget]) -> dict[str, int]:
    """The same share of every row, as large as the budgets allow; k of each row by group.

    First the largest share that fits; then, group by group, one unit a row more where that still does.
    So a budget is met from below to within one unit of each row of one group. Groups with a pattern
    keep their k of m.

    Raises:
        BudgetError: there is none where one is needed; it must be measured; or it cannot be met even
            with one unit a row, and carries the value that this reaches.
        PlanError: nothing can or needs to be removed.
    """
    if len(groups) == 0:
        raise PlanError(
            "there is no unit to remove",
            hint="print(groups), or secateur inspect with the same granularity, says what was found",
        )
    laid = {group.name: laid_out(rows, group) for group in groups}
    fixed = {group.name: group.pattern[0] for group in groups if group.pattern is not None}
    free = [name for name in laid if name not in fixed]
    if not free:
        _check_fixed(groups, goals(groups, budgets), fixed, laid)
        return fixed
    if not budgets:
        raise BudgetError(
            "without a budget there is nothing to stop at", hint="give one, as in units=0.3"
        )
    wanted = goals(groups, budgets)
    shares = sorted({i / laid[n].shape[1] for n in free for i in range(1, laid[n].shape[1] + 1)})

    least = {name: _least(groups[name], laid[name]) for name in free}

    def at(share: float) -> dict[str, int]:
        return fixed | {n: max(least[n], int(share * laid[n].shape[1] + 1e-9)) for n in free}

    def fits(k: Mapping[str, int]) -> bool:
        masks = {name: _first(laid[name], k[name]) for name in laid}
        return all(goal.met(masks) for goal in wanted)

    if not fits(at(shares[0])):
        fewest = at(shares[0])
        held = [f"{name}: {groups[name].least.why}" for name in free if least[name] > 1]
        raise _unreachable(wanted, {name: _first(laid[name], fewest[name]) for name in laid}, held)
    low, high = 0, len(shares)  # shares[low] fits, shares[high] does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(at(shares[middle])) else (low, middle)
    k = at(shares[low])
    for name in free:
        while k[name] < laid[name].shape[1] and fits(k | {name: k[name] + 1}):
            k[name] += 1
    if all(k[name] == laid[name].shape[1] for name in laid):
        asked = ", ".join(str(budget) for budget in budgets)
        raise PlanError("nothing needs to go: the dense network is within the budget", asked)
    return k


def _check_fixed(
    groups: Groups, wanted: Sequence[Goal], k: Mapping[str, int], laid: Mapping[str, Tensor]
) -> None:
    """Patterns leave no choice: do they keep the budgets?"""
    masks = {name: _first(laid[name], k[name]) for name in laid}
    if not all(goal.met(masks) for goal in wanted):
        said = ", ".join(dict.fromkeys("{} of {}".format(*g.pattern) for g in groups if g.pattern))
        raise _unreachable(wanted, masks, [f"its pattern keeps {said}"])


def _first(laid: Tensor, k: int) -> Tensor:
    """A mask with the first k of every row: what is counted is the same for any k."""
    mask = torch.zeros(laid.numel(), dtype=torch.bool)
    mask[laid[:, :k].flatten()] = True
    return mask


def _least(group: Group, laid: Tensor) -> int:
    """Units of every row that must stay."""
    return max(1, -(-group.least.units // len(laid)))


def _unreachable(
    wanted: Sequence[Goal], masks: Mapping[str, Tensor], held: Sequence[str]
) -> BudgetError:
    goal = next(goal for goal in wanted if not goal.met(masks))
    reached = goal.count(masks)
    nearest = reached / goal.dense if goal.budget.relative else reached
    return BudgetError(
        f"cannot be met: the fewest units a row leave {goal.budget.quantity}={nearest:.6g}",
        where=str(goal.budget),
        hint="; ".join(held) or "a larger budget, or other rows",
        nearest=nearest,
    )

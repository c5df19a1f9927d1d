"""Budgets that must be measured: how far to go, found by cutting and measuring."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from secateur.cost.verdict import verdict
from secateur.errors import BudgetError, PlanError
from secateur.measure.trial import NEAR, At, Dial, Measured, Reading, Trial, Walk, macs_kept
from secateur.measure.under import under
from secateur.types.budget import Budget
from secateur.types.plan import Plan

_TURNS = 9  # 1/512 of the way between the first two plans
_MACS = Dial()


def search(
    model: nn.Module,
    at: At,
    ceilings: Sequence[Measured],
    accuracy: Measured | None = None,
    *,
    counted: Sequence[Budget] = (),
    fine_tuned: bool = False,
    dial: Dial = _MACS,
    tell: Callable[[int, str], None] = lambda _done, _seen: None,
) -> Plan:
    """The plan that keeps budgets which only a measurement can tell.

    Plans are asked for by the share that they keep of the multiply-accumulates, or of what else the
    dial turns; each is cut and measured, and the next one asked for accordingly. Under ceilings
    (latency, memory, bytes) alone it is the largest plan found that keeps them. With an accuracy it
    is the smallest one found that keeps it, no larger than the ceilings allow. The search supposes
    that more units cost more and lose less; where a network disagrees, the plan is still one that
    was measured and holds. `Plan.about["search"]` lists all that was tried.

    Args:
        counted: other budgets, which need no measuring.
        fine_tuned: the accuracy is to come from training later: a plan that does not keep it yet will
            do, where no other keeps the ceilings.
        dial: what is turned until the ceilings hold.
        tell: told after every plan that was measured how many there were, and what was seen of this one.

    Raises:
        BudgetError: not even the smallest plan keeps the ceilings; or none that does so keeps the
            accuracy.
        PlanError: the dense network keeps the ceilings.
    """
    one = Walk(model, at, counted, dial, tell)
    top = one.trial(at(counted), ceilings) if counted else None
    if ceilings and (top is None or not top.held):
        top = under(one, ceilings, 1.0 if top is None else top.share)
    if accuracy is not None:
        top = _accurate(one, top, (*ceilings, accuracy), fine_tuned=fine_tuned)
    if top is not None and not counted and accuracy is None and _kept_by_dense(top):
        raise PlanError(
            "nothing needs to go: the dense network is within the budget",
            where=", ".join(str(one.budget) for one in ceilings),
            hint="a budget says what is kept, as in latency=0.5",
        )
    if top is None:
        raise BudgetError("without a budget there is nothing to stop at", where="search")
    return _told(top, len(counted), one.tried)


def _accurate(one: Walk, top: Trial | None, what: Sequence[Measured], *, fine_tuned: bool) -> Trial:
    """The smallest plan found that keeps the accuracy, the last of `what`, and all else.

    It is no larger than the top one, which keeps all else.
    """
    start = one.trial(one.largest() if top is None else top.plan, what)
    accuracy, dense, reached = start.readings[-1]
    if not accuracy.held(dense, reached):
        if fine_tuned and top is not None:
            return start
        raise BudgetError(
            f"cannot be reached: keeping {start.share:.1%} of the {one.dial.named}"
            f" changes it by {100 * (reached - dense):+.2f} points",
            where=str(accuracy.budget),
            hint="a repair (least_squares), another method, or budgets that leave more",
            nearest=100 * (reached - dense),
        )
    smallest = one.trial(one.smallest(), what)
    if smallest.held:
        return smallest
    return _between(one, smallest.share, start, what)


def _between(one: Walk, tight: float, start: Trial, what: Sequence[Measured]) -> Trial:
    """The smallest trial found that holds, above a share at which none does."""
    best, near = start, start.share
    for _ in range(_TURNS):
        if near - tight <= NEAR * near:
            break
        middle = (tight + near) / 2
        found = one.trial(one.plan(middle), what)
        # whatever is asked for between what was found and the middle gives the same plan
        if found.held:
            best, near = found, found.share
        else:
            tight = middle
    return best


def _kept_by_dense(trial: Trial) -> bool:
    return all(one.held(dense, dense) for one, dense, _ in trial.readings)


def _told(trial: Trial, counted: int, tried: Sequence[Trial]) -> Plan:
    """The plan, with verdicts on what was measured in place of the share it was asked for by."""
    plan = trial.plan
    budgets = [*plan.about["budgets"][:counted], *map(_verdict, trial.readings)]
    found = [
        {
            "macs": macs_kept(trial.plan),
            **{one.budget.quantity: reached for one, _, reached in trial.readings},
        }
        for trial in tried
    ]
    return Plan(plan.groups, plan.masks, {**plan.about, "budgets": budgets, "search": found})


def _verdict(reading: Reading) -> dict[str, Any]:
    one, dense, reached = reading
    return verdict(one.budget, dense, reached) | {"dense": dense}

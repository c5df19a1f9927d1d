"""Budgets that must be measured: how far to go, found by cutting and measuring."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from secateur.cost.counts import macs
from secateur.cost.verdict import verdict, within
from secateur.errors import BudgetError
from secateur.mask.shrink import shrink
from secateur.types.budget import Budget
from secateur.types.plan import Plan

_NOTHING = 1e-9  # of the multiply-accumulates: less than any plan keeps
_LITTLE = 1 - _NOTHING  # less than any plan keeps that removes something
_TURNS = 9  # 1/512 of the way between the first two plans
_NEAR = 0.01  # a share that is known to this fraction is known well enough

Read = Callable[[Plan, nn.Module], tuple[float, float]]
"""(plan, the network that it cut) → the quantity of the dense network and of this one, measured."""

At = Callable[[Sequence[Budget]], Plan]
"""The plan that keeps these budgets, all of which are counted: as `allocate` makes it."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A budget and how to measure its quantity.

    Attributes:
        margin: what is measured anew at the end may be off by this fraction, so stay below by as much.
    """

    budget: Budget
    read: Read
    margin: float = 0.0

    def held(self, dense: float, reached: float) -> bool:
        """Whether the budget holds, with the margin."""
        return within(self.budget, dense, reached * (1.0 + self.margin))


Reading = tuple[Measured, float, float]
"""(of what, of the dense network, of the smaller one)"""


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """A plan that was cut and measured."""

    plan: Plan
    share: float  # of the multiply-accumulates, which it keeps
    readings: tuple[Reading, ...]

    @property
    def held(self) -> bool:
        """Whether every budget that was read holds."""
        return all(one.held(dense, reached) for one, dense, reached in self.readings)


@dataclass(frozen=True, slots=True)
class _Search:
    """One way through plans of one scoring, with all that was tried."""

    model: nn.Module
    at: At
    counted: Sequence[Budget]
    tell: Callable[[str, int], None]
    tried: list[Trial] = field(default_factory=list)

    def plan(self, share: float) -> Plan:
        """The plan that keeps so much of the multiply-accumulates, and the counted budgets."""
        return self.at([*self.counted, Budget("macs", min(share, 1.0), relative=True)])

    def smallest(self) -> Plan:
        """The plan that keeps least."""
        try:
            return self.plan(_NOTHING)
        except BudgetError as error:
            if error.nearest is None:
                raise
            return self.plan(error.nearest * (1 + 1e-9))

    def trial(self, plan: Plan, what: Sequence[Measured]) -> Trial:
        """Cut and measure."""
        small = shrink(self.model, plan).eval()
        readings = tuple((one, *one.read(plan, small)) for one in what)
        found = Trial(plan, _share(plan), readings)
        self.tried.append(found)
        self.tell("search", len(self.tried))
        return found

    def between(
        self, loose: float, tight: Trial, what: Sequence[Measured], wanted: Callable[[Trial], bool]
    ) -> Trial:
        """Of plans between a share that is not wanted and a trial that is, the farthest wanted one."""
        best, near = tight, tight.share
        upwards = loose > near
        for _ in range(_TURNS):
            if (loose <= near) == upwards or abs(loose - near) <= _NEAR * max(loose, near):
                break
            middle = (loose + near) / 2
            found = self.trial(self.plan(middle), what)
            # whatever is asked for between what was found and the middle gives the same plan
            if wanted(found):
                best, near = found, middle if upwards else found.share
            else:
                loose = found.share if upwards else middle
        return best


def search(
    model: nn.Module,
    at: At,
    ceilings: Sequence[Measured],
    accuracy: Measured | None = None,
    *,
    counted: Sequence[Budget] = (),
    fine_tuned: bool = False,
    tell: Callable[[str, int], None] = lambda _what, _done: None,
) -> Plan:
    """The plan that keeps budgets which only a measurement can tell.

    Plans are asked for by the share of multiply-accumulates that they keep, cut, and measured; the
    share is bisected. Under ceilings (latency, memory, bytes) alone it is the largest plan found that
    keeps them. With an accuracy it is the smallest one found that keeps it, no larger than the ceilings
    allow. Bisection supposes that more units cost more and lose less; where a network disagrees, the
    plan is still one that was measured and holds. `Plan.about["search"]` lists all that was tried.

    Args:
        counted: other budgets, which need no measuring.
        fine_tuned: the accuracy is to come from training later: a plan that does not keep it yet will
            do, where no other keeps the ceilings.

    Raises:
        BudgetError: not even the smallest plan keeps the ceilings; or none that does so keeps the
            accuracy.
    """
    one = _Search(model, at, counted, tell)
    top = one.trial(at(counted), ceilings) if counted else None
    if ceilings and (top is None or not top.held):
        smallest = one.trial(one.smallest(), ceilings)
        if not smallest.held:
            raise _out_of_reach(smallest)
        loose = 1.0 if top is None else top.share
        top = one.between(loose, smallest, ceilings, lambda trial: trial.held)
    if accuracy is not None:
        top = _accurate(one, top, (*ceilings, accuracy), fine_tuned=fine_tuned)
    if top is None:
        raise BudgetError("without a budget there is nothing to stop at", where="search")
    return _told(top, len(counted), one.tried)


def _accurate(
    one: _Search, top: Trial | None, what: Sequence[Measured], *, fine_tuned: bool
) -> Trial:
    """The smallest plan found that keeps the accuracy, the last of `what`, and all else.

    It is no larger than the top one, which keeps all else.
    """
    start = one.trial(one.plan(_LITTLE) if top is None else top.plan, what)
    accuracy, dense, reached = start.readings[-1]
    if not accuracy.held(dense, reached):
        if fine_tuned and top is not None:
            return start
        raise BudgetError(
            f"cannot be reached: keeping {start.share:.1%} of the multiply-accumulates"
            f" changes it by {100 * (reached - dense):+.2f} points",
            where=str(accuracy.budget),
            hint="a repair (least_squares), another method, or budgets that leave more",
            nearest=100 * (reached - dense),
        )
    smallest = one.trial(one.smallest(), what)
    if smallest.held:
        return smallest
    return one.between(smallest.share, start, what, lambda trial: trial.held)


def _out_of_reach(smallest: Trial) -> BudgetError:
    """What to say where not even the smallest plan will do."""
    missed, dense, reached = next(r for r in smallest.readings if not r[0].held(r[1], r[2]))
    nearest = reached / dense if missed.budget.relative else reached
    return BudgetError(
        f"cannot be reached: the smallest network that the allocator makes measured {nearest:.4g}"
        f" ({smallest.share:.1%} of the multiply-accumulates)",
        where=str(missed.budget),
        hint="a larger budget, a smaller floor, or fewer layers in keep",
        nearest=nearest,
    )


def _told(trial: Trial, counted: int, tried: Sequence[Trial]) -> Plan:
    """The plan, with verdicts on what was measured in place of the share it was asked for by."""
    plan = trial.plan
    budgets = [*plan.about["budgets"][:counted], *map(_verdict, trial.readings)]
    found = [
        {
            "macs": trial.share,
            **{one.budget.quantity: reached for one, _, reached in trial.readings},
        }
        for trial in tried
    ]
    return Plan(plan.groups, plan.masks, {**plan.about, "budgets": budgets, "search": found})


def _verdict(reading: Reading) -> dict[str, Any]:
    one, dense, reached = reading
    return verdict(one.budget, dense, reached) | {"dense": dense}


def _share(plan: Plan) -> float:
    dense = macs(plan.groups)
    if not dense:
        raise BudgetError(
            "the network multiplies nothing, so there is no share of it to search over",
            where="search",
            hint="a budget of params or units",
        )
    return macs(plan.groups, plan.masks) / dense

"""Plans of one scoring, cut and measured one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import nn

from secateur.cost.counts import macs
from secateur.cost.verdict import number, verdict, within
from secateur.errors import BudgetError
from secateur.mask.shrink import shrink
from secateur.types.budget import Budget
from secateur.types.plan import Plan

NEAR = 0.01
"""A share that is known to this fraction is known well enough."""

_NOTHING = 1e-9  # of what is counted: less than any plan keeps
_LITTLE = 1 - _NOTHING  # less than the dense network, more than any plan that removes something

Read = Callable[[Plan, nn.Module], tuple[float, float]]
"""(plan, the network that it cut) → the quantity of the dense network and of this one, measured."""

At = Callable[[Sequence[Budget]], Plan]
"""The plan that keeps these budgets, all of which are counted: as `allocate` makes it."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A budget and how to measure its quantity.

    Attributes:
        margin: what is measured anew at the end may be off by this fraction, so stay below by as much.
        noisy: a second measurement gives another number: what held once is measured again.
    """

    budget: Budget
    read: Read
    margin: float = 0.0
    noisy: bool = False

    def held(self, dense: float, reached: float) -> bool:
        """Whether the budget holds, with the margin."""
        return within(self.budget, dense, reached * (1.0 + self.margin))


Reading = tuple[Measured, float, float]
"""(of what, of the dense network, of the smaller one)"""


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """A plan that was cut and measured."""

    plan: Plan
    share: float  # of what its dial turns, which it keeps
    readings: tuple[Reading, ...]

    @property
    def held(self) -> bool:
        """Whether every budget that was read holds."""
        return all(one.held(dense, reached) for one, dense, reached in self.readings)

    @property
    def excess(self) -> float:
        """The largest of the readings as a fraction of what is allowed, with its margin."""
        return max(
            reached * (1.0 + one.margin) / one.budget.limit(dense)
            for one, dense, reached in self.readings
        )

    @property
    def dense(self) -> float:
        """The same of the dense network."""
        return max(
            dense * (1.0 + one.margin) / one.budget.limit(dense) for one, dense, _ in self.readings
        )


def told(trial: Trial, named: str) -> str:
    """A trial in one line: "41.2 % of the MACs: latency 0.48 (asked 0.5, aimed at 0.485): holds".

    Args:
        named: what its share is a share of.
    """
    seen = ", ".join(_told(*reading) for reading in trial.readings)
    return f"{100 * trial.share:.1f} % of the {named}: {seen}: {_HOLDS[trial.held]}"


_HOLDS = {True: "holds", False: "does not hold"}


def _told(one: Measured, dense: float, after: float) -> str:
    said = verdict(one.budget, dense, after)
    aimed = f", aimed at {number(said['asked'] / (1.0 + one.margin))}" if one.margin else ""
    reached, asked = number(said["reached"]), number(said["asked"])
    return f"{said['quantity']} {reached} (asked {asked}{aimed})"


def macs_kept(plan: Plan) -> float:
    """The share of the multiply-accumulates that a plan keeps.

    Raises:
        BudgetError: the network has none.
    """
    dense = macs(plan.groups)
    if not dense:
        raise BudgetError(
            "the network multiplies nothing, so there is no share of it to search over",
            where="search",
            hint="a budget of params or units",
        )
    return macs(plan.groups, plan.masks) / dense


@dataclass(frozen=True, slots=True)
class Dial:
    """The counted quantity by whose share plans are asked for.

    Attributes:
        named: the quantity in words.
        share: what a plan keeps of it.
        guess: where the ceilings are likely to hold; None: nobody knows.
    """

    quantity: str = "macs"
    named: str = "multiply-accumulates"
    share: Callable[[Plan], float] = macs_kept
    guess: float | None = None


@dataclass(frozen=True, slots=True)
class Walk:
    """One way through plans of one scoring, with all that was tried."""

    model: nn.Module
    at: At
    counted: Sequence[Budget]
    dial: Dial
    tell: Callable[[int, str], None]
    tried: list[Trial] = field(default_factory=list)

    def plan(self, share: float) -> Plan:
        """The plan that keeps so much, and the counted budgets."""
        return self.at([*self.counted, Budget(self.dial.quantity, min(share, 1.0), relative=True)])

    def largest(self) -> Plan:
        """The plan that keeps most, of those that remove something."""
        return self.plan(_LITTLE)

    def smallest(self) -> Plan:
        """The plan that keeps least."""
        try:
            return self.plan(_NOTHING)
        except BudgetError as error:
            if error.nearest is None:
                raise
            return self.plan(error.nearest * (1 + 1e-9))

    def trial(self, plan: Plan, what: Sequence[Measured]) -> Trial:
        """Cut and measure; what scatters three times, where once cannot tell whether it holds."""
        small = shrink(self.model, plan).eval()
        readings = tuple(_reading(one, plan, small) for one in what)
        found = Trial(plan, self.dial.share(plan), readings)
        self.tried.append(found)
        self.tell(len(self.tried), told(found, self.dial.named))
        return found


def _reading(one: Measured, plan: Plan, small: nn.Module) -> Reading:
    """One reading; the middle one of three where it is as near to the ceiling as others may be off."""

    def excess(read: tuple[float, float]) -> float:
        return read[1] * (1.0 + one.margin) / one.budget.limit(read[0])

    found = one.read(plan, small)
    if one.noisy and abs(excess(found) - 1.0) <= one.margin:
        found = sorted((found, one.read(plan, small), one.read(plan, small)), key=excess)[1]
    return one, *found

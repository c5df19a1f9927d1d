"""Budgets as numbers: what each quantity may be at most, and how a mask is counted against it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from secateur.cost.counts import macs, params
from secateur.cost.prices import Prices
from secateur.cost.verdict import within
from secateur.errors import BudgetError
from secateur.types.budget import Budget, parse
from secateur.types.group import Groups

Masks = Mapping[str, Tensor]


def _units(groups: Groups, masks: Masks) -> int:
    """Units that stay, over all groups."""
    return sum(
        int(masks[group.name].sum()) if group.name in masks else group.size for group in groups
    )


_COUNTS: dict[str, Callable[[Groups, Masks], int]] = {
    "units": _units,
    "params": params,
    "macs": macs,
}
COUNTED = tuple(_COUNTS)
"""Quantities that masks alone tell; the others must be measured."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A budget on one network.

    `count` tells what masks leave of the quantity; it never rises when more units go. `prices` are
    those of a latency, of which there is no other way to count.
    """

    budget: Budget
    dense: float
    count: Callable[[Masks], float]
    prices: Prices | None = None

    def met(self, masks: Masks) -> bool:
        """Whether the budget holds."""
        return within(self.budget, self.dense, self.count(masks))


def goals(
    groups: Groups,
    to: Budget | str | Sequence[Budget | str] | None,
    prices: Prices | None = None,
) -> list[Goal]:
    """What must hold, from budgets or their text ("macs=0.5"); none for None.

    Args:
        prices: times of the network's layers, by which a latency is predicted.

    Raises:
        BudgetError: a budget is malformed, or must be measured rather than counted.
    """
    if to is None:
        return []
    if isinstance(to, int | float):
        raise BudgetError(
            f"{to!r} does not say of what",
            where="to",
            hint=f"write it as sec.macs({to}) or 'macs={to}'",
        )
    several = [to] if isinstance(to, Budget | str) else list(to)
    return [_goal(groups, parse(b) if isinstance(b, str) else b, prices) for b in several]


def _goal(groups: Groups, budget: Budget, prices: Prices | None) -> Goal:
    if budget.quantity == "latency" and prices is not None:
        known = prices

        def seconds(masks: Masks) -> float:
            return known.seconds(groups, masks)

        return Goal(budget, seconds({}), seconds, prices)
    if budget.quantity not in _COUNTS:
        raise BudgetError(
            f"{budget.quantity} must be measured, and this allocator only counts",
            where=str(budget),
            hint=f"sec.prune measures; here count one of {', '.join(COUNTED)}",
        )
    count = _COUNTS[budget.quantity]

    def left(masks: Masks) -> float:
        return count(groups, masks)

    return Goal(budget, left({}), left)

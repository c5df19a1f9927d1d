"""A nested order of removals, and the shortest part of it that meets a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from secateur.allocate.goals import Goal
from secateur.errors import BudgetError
from secateur.types.group import Groups
from secateur.types.scores import Scores

NEVER = torch.iinfo(torch.int64).max
"""The step of a unit that always stays."""


class Allocator(Protocol):
    """Something that chooses which units stay."""

    def choose(self, groups: Groups, scores: Scores, wanted: Sequence[Goal]) -> dict[str, Tensor]:
        """Group name → bool (n,), True stays, such that every goal is met.

        Raises:
            BudgetError: the goals cannot be met, or there is none and the allocator needs one.
            ScoreError: the scores it goes by are missing or cannot be used.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """When each unit leaves, if it must.

    After s steps the units with `when < s` are gone, so a longer order never brings one back.

    Attributes:
        when: group name → int64 (n,): the step in which the unit leaves; -1 is before the first,
            whatever the budget; `NEVER` stays.
        steps: how many there are.
    """

    when: Mapping[str, Tensor]
    steps: int

    def masks(self, steps: int) -> dict[str, Tensor]:
        """What is left after so many steps: group name → bool (n,)."""
        return {name: when >= steps for name, when in self.when.items()}


def shortest(order: Order, wanted: Sequence[Goal]) -> dict[str, Tensor]:
    """The masks after as few steps as meet every goal, found by bisection.

    Raises:
        BudgetError: even the whole order does not meet them, or steps can be taken but no goal says
            how many.
    """
    if not wanted:
        if order.steps:
            raise BudgetError(
                "without a budget there is nothing to stop at", hint="give one, as in macs=0.5"
            )
        return order.masks(0)
    end = order.masks(order.steps)
    for goal in wanted:
        if not goal.met(end):
            raise _unreachable(goal, goal.count(end))
    if _met(wanted, order.masks(0)):
        return order.masks(0)
    missed, met = 0, order.steps
    while met - missed > 1:
        middle = (missed + met) // 2
        if _met(wanted, order.masks(middle)):
            met = middle
        else:
            missed = middle
    return order.masks(met)


def _met(wanted: Sequence[Goal], masks: Mapping[str, Tensor]) -> bool:
    return all(goal.met(masks) for goal in wanted)


def _unreachable(goal: Goal, smallest: float) -> BudgetError:
    """The error that says how near one can come; its number can be given as a budget again."""
    quantity, share = goal.budget.quantity, smallest / goal.dense
    nearest = share if goal.budget.relative else smallest
    return BudgetError(
        f"cannot be reached: the smallest is {quantity}={nearest!r}"
        f" ({smallest:,.0f} of {goal.dense:,.0f}, {share:.2%})",
        where=str(goal.budget),
        hint="a larger budget, a smaller floor or round_to, or fewer layers in keep",
        nearest=nearest,
    )

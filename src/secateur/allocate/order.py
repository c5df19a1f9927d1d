"""Removals in steps, and the fewest steps that meet a budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from secateur.allocate.goals import Goal
from secateur.errors import BudgetError
from secateur.types.group import Groups
from secateur.types.scores import Scores

NEVER = torch.iinfo(torch.int64).max
"""The step of a unit that always stays."""


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """What an allocator chose.

    Attributes:
        masks: group name → bool (n,); True stays.
        about: what the plan is to tell of it; JSON values only. "allocator" is who chose, where the
            allocator's own text does not say it all.
    """

    masks: Mapping[str, Tensor]
    about: Mapping[str, Any] = field(default_factory=dict)


class Allocator(Protocol):
    """Something that chooses which units stay."""

    def choose(self, groups: Groups, scores: Scores, wanted: Sequence[Goal]) -> Choice:
        """A mask for every group, such that every goal is met.

        Raises:
            BudgetError: the goals cannot be met, or there is none and the allocator needs one.
            ScoreError: the scores it goes by are missing or cannot be used.
        """
        ...


class Removals(Protocol):
    """Removals in steps: each leaves no more than the one before."""

    @property
    def steps(self) -> int:
        """How many there are."""
        ...

    def masks(self, steps: int) -> dict[str, Tensor]:
        """What is left after so many steps: group name → bool (n,)."""
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


def shortest(order: Removals, wanted: Sequence[Goal]) -> dict[str, Tensor]:
    """The masks after as few steps as meet every goal, found by bisection.

    Raises:
        BudgetError: even the whole order does not meet them, or steps can be taken but no goal says
            how many.
    """
    if not wanted and order.steps:
        raise BudgetError(
            "without a budget there is nothing to stop at", hint="give one, as in macs=0.5"
        )
    return order.masks(fewest(order, wanted))


def fewest(order: Removals, wanted: Sequence[Goal], hint: str = "") -> int:
    """After how many steps every goal is met; 0 where there is none.

    Args:
        hint: what else may help where they cannot be met.

    Raises:
        BudgetError: even the whole order does not meet them; it tells the nearest that can be met.
    """
    check_met(order.masks(order.steps), wanted, hint)
    return first(order.steps, lambda steps: _met(wanted, order.masks(steps)))


def first(last: int, holds: Callable[[int], bool]) -> int:
    """The smallest number up to `last` for which something holds that holds from there on.

    It is taken to hold for `last`. At most 2 + log2(last) questions are asked, 0 first.
    """
    if last == 0 or holds(0):
        return 0
    missed, met = 0, last
    while met - missed > 1:
        middle = (missed + met) // 2
        if holds(middle):
            met = middle
        else:
            missed = middle
    return met


def check_met(masks: Mapping[str, Tensor], wanted: Sequence[Goal], hint: str = "") -> None:
    """Raise for the first goal that the masks do not meet, and say how near they come.

    Raises:
        BudgetError: its number can be given as a budget again.
    """
    for goal in wanted:
        if goal.met(masks):
            continue
        smallest = goal.count(masks)
        quantity, share = goal.budget.quantity, smallest / goal.dense
        nearest = share if goal.budget.relative else smallest
        raise BudgetError(
            f"cannot be reached: the smallest is {quantity}={nearest!r}"
            f" ({smallest:,.0f} of {goal.dense:,.0f}, {share:.2%})",
            where=str(goal.budget),
            hint=hint or "a larger budget, a smaller floor or round_to, or fewer layers in keep",
            nearest=nearest,
        )


def _met(wanted: Sequence[Goal], masks: Mapping[str, Tensor]) -> bool:
    return all(goal.met(masks) for goal in wanted)

"""Budgets as a caller gives them."""

from __future__ import annotations

import pytest

from secateur.errors import BudgetError, OptionError
from secateur.pipeline.budgets import budgets_of
from secateur.types.budget import Budget

HALF = Budget("macs", 0.5, relative=True)


def test_one_or_several_values_or_texts() -> None:
    assert budgets_of(None) == ()
    assert budgets_of("macs=0.5") == budgets_of(HALF) == budgets_of([HALF]) == (HALF,)
    several = budgets_of(("params=200k", HALF))
    assert several == (Budget("params", 200_000.0, relative=False), HALF)


@pytest.mark.parametrize(
    "to", [["macs=0.5", "macs=0.3"], [HALF, HALF], ["macs=0.5", "params=0.5", "macs=1M"]]
)
def test_two_of_one_quantity_are_refused(to: list[Budget | str]) -> None:
    with pytest.raises(BudgetError, match=r"macs=.* and macs=.* are two budgets") as told:
        budgets_of(to)
    assert told.value.where == "to"
    assert told.value.hint


@pytest.mark.parametrize("to", [3, 0.5, [1], object(), {"macs": 0.5}, b"macs=0.5"])
def test_what_is_no_budget(to: object) -> None:
    with pytest.raises((OptionError, BudgetError)) as told:
        budgets_of(to)  # type: ignore[arg-type]
    assert told.value.hint

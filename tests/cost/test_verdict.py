from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from secateur.cost import verdict, within
from secateur.types.budget import budget


def test_relative_budgets_are_said_as_fractions() -> None:
    assert verdict(budget("macs", 0.5), 200, 99) == {
        "quantity": "macs",
        "asked": 0.5,
        "reached": 0.495,
        "met": True,
    }
    assert not within(budget("macs", 0.5), 200, 101)


def test_absolute_budgets_are_said_in_their_unit() -> None:
    assert verdict(budget("latency", "2ms"), 0.01, 0.0021) == {
        "quantity": "latency",
        "asked": 0.002,
        "reached": 0.0021,
        "met": False,
    }


def test_accuracy_is_a_change_in_points() -> None:
    found = verdict(budget("accuracy", -1.0), 0.91, 0.905)
    assert round(found["reached"], 9) == -0.5
    assert found["met"]
    assert within(budget("accuracy", -1.0), 0.91, 0.90)
    assert not within(budget("accuracy", -1.0), 0.91, 0.8999)
    assert within(budget("accuracy", 0.0), 0.91, 0.95)


@given(st.integers(2, 10**15), st.data())
def test_a_value_said_as_a_fraction_meets_a_budget_of_that_fraction(
    dense: int, data: st.DataObject
) -> None:
    value = data.draw(st.integers(1, dense))
    assert within(budget("params", value / dense), dense, value)
    if dense < 10**11:  # beyond, one element is less than the rounding that is allowed
        assert not within(budget("params", value / dense), dense, value + 1)

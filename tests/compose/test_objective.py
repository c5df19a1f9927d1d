"""Values of candidates: straight lines in the loss."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.compose.objective import LossPerWeight, LowestLoss, Objective

LOSSES = st.floats(0, 100)


@given(loss=LOSSES, present=LOSSES, removed=st.integers(0, 10**6))
def test_the_lowest_loss_is_the_loss(loss: float, present: float, removed: int) -> None:
    assert LowestLoss().value(loss, present, removed) == loss


def test_loss_per_weight_is_the_rise_for_each_weight() -> None:
    assert LossPerWeight().value(3.0, 1.0, 4) == 0.5
    assert LossPerWeight().value(0.5, 1.0, 0) == -0.5  # nothing goes: no division by nothing


@pytest.mark.parametrize("objective", [LowestLoss(), LossPerWeight()])
@given(a=LOSSES, b=LOSSES, share=st.floats(0, 1), present=LOSSES, removed=st.integers(1, 1000))
def test_values_are_straight_lines(
    objective: Objective, a: float, b: float, share: float, present: float, removed: int
) -> None:
    between = share * a + (1 - share) * b
    values = [objective.value(x, present, removed) for x in (a, b, between)]
    assert values[2] == pytest.approx(share * values[0] + (1 - share) * values[1], abs=1e-9)
    assert (values[0] <= values[1]) == (a <= b) or abs(a - b) < 1e-9


def test_only_one_of_them_weighs() -> None:
    assert not LowestLoss().weighs
    assert LossPerWeight().weighs

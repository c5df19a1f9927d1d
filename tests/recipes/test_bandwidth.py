from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.errors import OptionError
from secateur.recipes.bandwidth import Curve, bandwidth_saved, largest_factor, position_bits

FACTORS = (0.0, 0.5, 0.75, 0.9)


def curve(*accuracy: float, positions: tuple[float, ...] = (0.0, 1.0, 0.8, 0.5)) -> Curve:
    return Curve(FACTORS, accuracy, positions)


def test_the_largest_factor_lies_on_the_straight_line_to_the_next() -> None:
    falling = curve(0.9, 0.8, 0.6, 0.2)
    assert largest_factor(falling, 0.8) == 0.5
    assert largest_factor(falling, 0.7) == pytest.approx(0.625)
    assert largest_factor(falling, 0.85) == pytest.approx(0.25)
    assert largest_factor(falling, 0.1) == 0.9  # never measured further


def test_the_last_crossing_counts_where_a_curve_is_not_monotone() -> None:
    assert largest_factor(curve(0.9, 0.7, 0.8, 0.2), 0.8) == 0.75


def test_nothing_can_go_where_only_the_dense_network_reaches_the_target() -> None:
    assert largest_factor(curve(0.9, 0.1, 0.1, 0.1), 0.9) == 0.0
    assert largest_factor(curve(0.9, 0.1, 0.1, 0.1), 0.95) == 0.0


def test_the_saving_is_the_formula_of_the_methods() -> None:
    ours, other = curve(0.9, 0.9, 0.8, 0.2), curve(0.9, 0.8, 0.6, 0.2)
    assert bandwidth_saved(ours, other, 0.8) == pytest.approx(1 - (1 - 0.75) / (1 - 0.5))
    assert bandwidth_saved(other, ours, 0.8) == pytest.approx(1 - (1 - 0.5) / (1 - 0.75))


def test_with_index_cost_the_positions_count_beside_the_values() -> None:
    ours, other = curve(0.9, 0.9, 0.8, 0.2), curve(0.9, 0.8, 0.6, 0.2)
    expected = 1 - (0.25 * 32 + 0.8) / (0.5 * 32 + 1.0)
    assert bandwidth_saved(ours, other, 0.8, index=True) == pytest.approx(expected)
    eight_bits = 1 - (0.25 * 8 + 0.8) / (0.5 * 8 + 1.0)
    found = bandwidth_saved(ours, other, 0.8, index=True, value_bits=8)
    assert found == pytest.approx(eight_bits)


@given(
    st.lists(st.floats(0.0, 1.0), min_size=4, max_size=4),
    st.lists(st.floats(0.0, 1.0), min_size=4, max_size=4),
    st.floats(0.0, 1.0),
    st.booleans(),
)
def test_savings_of_one_over_the_other_cancel(
    a: list[float], b: list[float], target: float, index: bool
) -> None:
    one, two = curve(*a), curve(*b)
    there = bandwidth_saved(one, two, target, index=index)
    back = bandwidth_saved(two, one, target, index=index)
    assert (1 - there) * (1 - back) == pytest.approx(1)
    assert bandwidth_saved(one, one, target, index=index) == 0.0


@given(st.integers(1, 60), st.data())
def test_positions_cost_no_less_than_naming_one_of_all_choices(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    mask = torch.zeros(n, dtype=torch.bool)
    mask[:k] = True
    bits = n * position_bits({"layer": mask})
    choices = math.log2(math.comb(n, k))
    assert choices - 1e-9 <= bits <= choices + math.log2(n + 1) + 1e-9


def test_positions_are_counted_group_by_group() -> None:
    half, all_of_it = torch.tensor([True, False] * 4), torch.ones(8, dtype=torch.bool)
    assert position_bits({"a": half, "b": all_of_it}) == pytest.approx(0.5)


def test_a_curve_is_plain_json() -> None:
    drawn = curve(0.9, 0.8, 0.6, 0.2)
    stored = json.loads(json.dumps(drawn.to_json()))
    assert Curve(**{name: tuple(values) for name, values in stored.items()}) == drawn


@pytest.mark.parametrize(
    ("factors", "accuracy"),
    [
        ((0.1, 0.5), (0.9, 0.8)),
        ((0.0, 0.5, 0.5), (0.9, 0.8, 0.7)),
        ((0.0, 0.5, 1.5), (0.9, 0.8, 0.7)),
        ((0.0, 0.5), (0.9,)),
        ((), ()),
    ],
)
def test_what_is_no_curve_is_refused(
    factors: tuple[float, ...], accuracy: tuple[float, ...]
) -> None:
    with pytest.raises(OptionError, match="rise from 0"):
        Curve(factors, accuracy, (0.0,) * len(factors))

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from secateur.allocate.widths import depths, least_kept
from tests.allocate import plain_tolerance as plain

FLOORS = st.integers(1, 12) | st.floats(0.01, 0.99)


@given(st.integers(1, 200), FLOORS, st.integers(1, 20))
def test_depths_are_those_that_floor_width_and_cap_allow(
    size: int, floor: int | float, round_to: int
) -> None:
    found = depths(size, floor, round_to, int(0.99 * size)).tolist()
    assert found == plain.allowed(size, floor, round_to)


@given(st.integers(1, 40), FLOORS, st.integers(1, 8), st.integers(1, 40))
def test_some_stay_whatever_the_floor(
    size: int, floor: int | float, round_to: int, least: int
) -> None:
    found = depths(size, floor, round_to, size, least).tolist()
    assert found == [d for d in depths(size, floor, round_to, size).tolist() if size - d >= least]


def test_a_group_of_one_loses_nothing() -> None:
    assert depths(1, 1, 1, 1).tolist() == []


def test_a_floor_as_a_fraction_is_read_as_it_is_written() -> None:
    assert least_kept(30, 0.1) == 3
    assert least_kept(31, 0.1) == 4
    assert least_kept(3, 0.01) == 1
    assert least_kept(3, 8) == 3

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.compose.rounded import rounded
from tests.compose.drawn import FLOATS, NEIGHBOURS, ranks


@given(st.lists(FLOATS, min_size=1, max_size=20))
def test_float32_numbers_stay_as_they_are(values: list[float]) -> None:
    wanted = torch.tensor(values, dtype=torch.float64)
    assert torch.equal(rounded(wanted, wanted), wanted.float())


@given(st.lists(NEIGHBOURS, min_size=1, max_size=20), st.floats(0.01, 100.0))
def test_the_order_is_kept_where_plain_rounding_loses_it(values: list[float], by: float) -> None:
    order = torch.tensor(values, dtype=torch.float64)
    found = rounded(order * by, order)
    assert found.dtype == torch.float32
    assert ranks(found) == ranks(order)
    torch.testing.assert_close(found.double(), order * by, rtol=1e-5, atol=0.0)


@given(st.integers(2, 20), st.sampled_from([0.0, 1.0, -1.0, 1e-45, -1e-45, -3e38]))
def test_equal_values_of_a_rising_order_become_neighbours(size: int, at: float) -> None:
    found = rounded(torch.full((size,), at, dtype=torch.float64), torch.arange(size))
    expected = [torch.tensor(at)]
    for _ in range(size - 1):  # the slow twin: one float32 number after the other
        expected.append(torch.nextafter(expected[-1], torch.tensor(math.inf)))
    assert torch.equal(found, torch.stack(expected))


def test_equal_order_makes_equal_values() -> None:
    found = rounded(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64), torch.tensor([0, 1, 1]))
    assert found.tolist() == [1.0, 2.0, 2.0]


def test_nothing_to_round() -> None:
    assert rounded(torch.zeros(0, dtype=torch.float64), torch.zeros(0)).shape == (0,)

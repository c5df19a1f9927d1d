"""The k highest of rows against a plain sort, with ties, with few columns and with what is not finite."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from secateur.learn.noise import gumbel
from secateur.learn.selection import highest

CPU = torch.device("cpu")


def check(value: Tensor, k: int) -> None:
    """k different places a row, all of that row, with the values that a sort finds."""
    places, found = highest(value, k)
    rows, n = value.shape
    own = places // n == torch.arange(rows).unsqueeze(1)
    assert bool(own.all())
    assert all(len(set(row)) == k for row in places.tolist())
    assert torch.equal(value.take(places), found)
    assert torch.equal(found, value.sort(dim=1, descending=True).values[:, :k])


@settings(deadline=None, max_examples=100)
@given(
    st.integers(1, 6),
    st.integers(1, 400),
    st.floats(0.0, 1.0),
    st.sampled_from([torch.float32, torch.float64]),
    st.sampled_from([1, 3, 0]),
    st.integers(0, 2**31),
)
def test_they_are_those_of_a_sort(
    rows: int, n: int, share: float, kind: torch.dtype, levels: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    value = torch.randn(rows, n, generator=generator, dtype=kind)
    if levels:  # many are equal, or all
        value = value.clamp(-1, 1).mul(levels - 1).round()
    check(value, max(1, round(share * n)))


@pytest.mark.parametrize(
    ("n", "k"), [(784, 1), (784, 39), (785, 39), (784, 160), (784, 235), (40, 40)]
)
def test_rows_of_every_shape_of_blocks(n: int, k: int) -> None:
    check(gumbel((50, n), n + k, CPU), k)
    check(gumbel((50, n), n + k, CPU).sort(dim=1).values, k)  # the highest all in one block
    check(gumbel((50, n), n + k, CPU).sort(dim=1, descending=True).values, k)


def test_rows_of_very_different_height() -> None:
    check(gumbel((40, 300), 1, CPU) + 1e4 * torch.randn(40, 1), 15)


def test_infinite_values_are_ordered_too() -> None:
    value = gumbel((4, 64), 2, CPU)
    value[0, 5], value[1, :60], value[2] = math.inf, -math.inf, -math.inf
    places, found = highest(value, 8)
    assert int(places[0, 0]) == 5
    assert torch.equal(found, value.sort(dim=1, descending=True).values[:, :8])
    assert all(len(set(row)) == 8 for row in places.tolist())


def test_nan_still_makes_k_a_row() -> None:
    value = gumbel((4, 64), 3, CPU)
    value[1, 7], value[2] = math.nan, math.nan
    places, _ = highest(value, 8)
    assert all(len(set(row)) == 8 for row in places.tolist())
    assert torch.equal(places // 64, torch.arange(4).unsqueeze(1).expand(4, 8))

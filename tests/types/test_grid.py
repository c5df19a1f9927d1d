"""Whole numbers behind float weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.learn import Quantizer
from secateur.learn.quantize import along, largest
from secateur.types.grid import find
from secateur.wire.adaptive import Memory
from secateur.wire.page import Page
from secateur.wire.values import put
from tests.wire.networks import bits

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


@given(
    st.sampled_from([1, 2, 4, 8]),
    st.booleans(),
    st.integers(1, 6),
    st.integers(5, 40),
    st.integers(0, 2**31),
)
def test_quantised_weights_are_found(
    number: int, per_channel: bool, rows: int, columns: int, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    quantizer = Quantizer(number, per_channel)
    weights = torch.randn(rows, columns, generator=draw)
    scale = quantizer.scale(weights)
    codes = quantizer.round(weights, scale)  # with zeros that have a minus sign
    values = codes * along(scale, 2)
    counts = np.full(rows, columns)
    grid = find(values.reshape(-1), counts)
    if grid is None:
        assert not per_channel or 32 * rows + 7 * values.numel() > 20 * values.numel()
        return
    assert grid.largest <= largest(number)
    assert grid.scales.size in (1, rows)
    channel = np.repeat(np.arange(rows), columns) if grid.scales.size > 1 else None
    assert bits(grid.values(channel, torch.float32)) == bits(values.reshape(-1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_coarsest_grid(dtype: torch.dtype) -> None:
    values = torch.tensor([0.75, -1.5, 0.0, -0.0, 2.25] * 4, dtype=dtype)
    grid = find(values, np.array([20]))
    assert grid is not None
    assert (grid.scales.tolist(), grid.largest) == ([0.75], 3)
    assert grid.symbols[:5].tolist() == [4, 1, 3, 7, 6]
    assert bits(grid.values(None, dtype)) == bits(values)


def test_channels_of_their_own() -> None:
    values = torch.tensor([1.0] * 9 + [3.0] * 9 + [0.0] * 9 + [1e-3, 127e-3] + [1e-3] * 7)
    values[:9] *= torch.tensor([1.0, -1.0] * 4 + [1.0])
    grid = find(values, np.array([9, 9, 9, 9]))
    assert grid is None  # 127e-3 is not 127 times 1e-3 in float32
    values[28] = values[27] * 126
    assert find(values, np.array([9, 9, 9, 9])) is None  # nor is this: the product is rounded
    values[28] = values[27] * 64
    grid = find(values, np.array([9, 9, 9, 9]))
    assert grid is not None
    assert grid.scales.tolist() == [1.0, 3.0, 0.0, float(values[27])]


@pytest.mark.parametrize(
    "values",
    [
        torch.randn(50, generator=torch.Generator().manual_seed(0)),
        torch.tensor([float("nan")] * 9),
        torch.tensor([float("inf")] * 9),
        torch.zeros(9),
        torch.ones(9, dtype=torch.float64) / 3,
        torch.full((9,), 1e-300, dtype=torch.float64),
        torch.full((9,), 1e300, dtype=torch.float64),
        torch.ones(9, dtype=torch.int32),
        torch.empty(0),
        torch.arange(129.0),
        torch.ones(1),
        torch.tensor([1e-45, 1e38] * 5),
    ],
)
def test_no_grid(values: torch.Tensor) -> None:
    assert find(values, np.array([len(values)])) is None


@pytest.mark.parametrize(
    ("codes", "coding"),
    [([1, -1], "signs"), ([1, 0, -1], "2 bits"), ([1.0, -0.0], "2 bits"), ([7, 0], "4 bits")],
)
def test_codings_have_names(codes: list[float], coding: str) -> None:
    found = put(Page(Memory()), torch.tensor([*codes, 1.0] * 9), np.array([9]), "weights")
    assert found == coding


def test_numbers_below_the_least_normal() -> None:
    values = torch.tensor([3, -2, 1] * 5) * torch.tensor(2.0**-149)
    grid = find(values, np.array([15]))
    assert grid is not None
    assert grid.scales.tolist() == [2.0**-149]
    assert bits(grid.values(None, torch.float32)) == bits(values)


def test_how_values_lie_in_memory_does_not_matter() -> None:
    values = torch.arange(-20.0, 20.0)
    strided = torch.stack([values, values + 0.3], 1)[:, 0]
    one, other = (find(some, np.array([40])) for some in (values, strided))
    assert one is not None
    assert other is not None
    assert np.array_equal(one.symbols, other.symbols)


@pytest.mark.filterwarnings("error")
def test_the_largest_floats_warn_of_nothing() -> None:
    assert find(torch.tensor([3.4e38, -1.0] * 20), np.array([40])) is None
    found = find(torch.tensor([3.4e38, -3.4e38] * 20), np.array([40]))
    assert found is not None
    assert found.largest == 1

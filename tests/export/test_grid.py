"""Integer codes are found in quantised weights, and in nothing else."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from secateur.export.grid import grid, grids
from secateur.learn import Quantizer
from secateur.learn.codes import codes


@given(
    seed=st.integers(0, 2**31),
    bits=st.sampled_from([1, 2, 4, 8]),
    rows=st.integers(1, 9),
    each=st.integers(4, 40),
    size=st.floats(1e-30, 1e30),
    kept=st.floats(0.3, 1.0),
)
def test_what_the_quantiser_made_is_found_bit_for_bit(
    seed: int, bits: int, rows: int, each: int, size: float, kept: float
) -> None:
    draw = torch.Generator().manual_seed(seed)
    weights = torch.randn(rows, each, generator=draw) * size
    weights *= torch.rand(rows, each, generator=draw) < kept
    made = codes(weights, Quantizer(bits=bits))
    values = made.values()
    found = grid(values)
    if torch.count_nonzero(values) <= 2 * rows:
        assert found is None
        return
    assert found is not None
    assert torch.equal(found.codes * found.steps[:, None], values)
    # the step may be a multiple of the scale, where all codes are
    assert bool((found.codes.int().abs() <= made.codes.int().abs()).all())
    assert found.bits == (4 if int(found.codes.abs().max()) <= 7 else 8)


@given(seed=st.integers(0, 2**31), each=st.integers(4, 50))
def test_float_weights_are_on_no_grid(seed: int, each: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    assert grid(torch.randn(5, each, generator=draw)) is None


@given(bump=st.integers(0, 19))
def test_one_weight_off_the_grid_is_enough(bump: int) -> None:
    weights = codes(torch.randn(2, 10), Quantizer(bits=8)).values().clone()
    place = divmod(bump, 10)
    weights[place] = torch.nextafter(weights[place] + 1e-3, torch.tensor(9.0))
    assert grid(weights) is None


def test_known_answers() -> None:
    found = grid(torch.tensor([[0.5, -1.0, 0.0, 1.5], [0.0, 0.0, 0.0, 0.0], [3.0, 6.0, 9.0, -3.0]]))
    assert found is not None
    assert found.codes.tolist() == [[1, -2, 0, 3], [0, 0, 0, 0], [1, 2, 3, -1]]
    assert found.steps.tolist() == [0.5, 1.0, 3.0]
    assert found.bits == 4
    wide = grid(torch.tensor([[127.0, 1.0, -126.0]]))
    assert wide is not None
    assert wide.bits == 8
    assert grid(torch.tensor([[128.0, 1.0, -126.0]])) is None


@pytest.mark.parametrize(
    "weights",
    [
        torch.tensor([[1.0, float("nan"), 2.0]]),
        torch.tensor([[1.0, float("inf"), 2.0]]),
        torch.zeros(3, 4),
        torch.ones(3, 2),  # too little to tell
        torch.ones(3, 4, dtype=torch.float64),
        torch.ones(12),
        torch.ones(0, 4),
        torch.ones(4, 0),
        torch.tensor([[1e-45, 2e-45, 1e38]]),
    ],
)
def test_what_is_no_grid(weights: torch.Tensor) -> None:
    assert grid(weights) is None


def test_a_network_names_them() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))
    with torch.no_grad():
        model[2].weight.copy_(codes(model[2].weight, Quantizer(bits=4)).values())
    assert list(grids(model)) == [("2.weight",)]
    model.append(model[2])
    assert list(grids(model)) == [("2.weight", "3.weight")]

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from secateur.saliency.sums import dots, sizes, sums


def drawn(shape: list[int], seed: int, dtype: torch.dtype) -> Tensor:
    """Some zeros, and small whole numbers besides, so that every sum is exact."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(-2, 3, shape, generator=draw).to(dtype)


def others(tensor: Tensor, dim: int) -> list[int]:
    return [d for d in range(1, tensor.dim()) if d != dim % tensor.dim()]


@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    dim=st.integers(-4, 3),
    rows=st.integers(1, 7),
    seed=st.integers(0, 99),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    reverse=st.booleans(),
)
def test_sums_are_those_of_the_slow_twin(
    shape: list[int], dim: int, rows: int, seed: int, dtype: torch.dtype, reverse: bool
) -> None:
    dim = dim % len(shape) if dim >= 0 or -dim >= len(shape) else dim
    left, right = drawn(shape, seed, dtype), drawn(shape, seed + 1, dtype)
    if reverse:  # no row lies in one piece
        left = (
            left.permute(*range(len(shape) - 1, -1, -1))
            .contiguous()
            .permute(*range(len(shape) - 1, -1, -1))
        )
    parts = [left] if dim == 0 else list(left.split(rows))
    found = sizes(parts, dim, ["absolute", "others"])
    rest = [d for d in range(len(shape)) if d != dim % len(shape)]
    double = left.double()
    assert torch.equal(found["absolute"], double.abs().sum(rest) if rest else double.abs())
    alive = (left != 0).double()
    assert torch.equal(found["others"], alive.sum(rest) if rest else alive)
    assert all(value.dtype == torch.float64 for value in found.values())
    if dim % len(shape) == 0:
        assert torch.equal(sums(left, 0), (double.sum(rest) if rest else double)[None])
        return
    between = others(left, dim)
    assert torch.equal(sums(left, dim), double.sum(between) if between else double)
    products = double * right.double()
    assert torch.equal(dots(left, right, dim), products.sum(between) if between else products)


@pytest.mark.parametrize("length", [1, 2, 500])
@pytest.mark.parametrize("last", [False, True], ids=["rows in one piece", "channels last"])
def test_products_of_rows_of_any_length(length: int, last: bool) -> None:
    left, right = (drawn([3, 4, length, 1], seed, torch.float32) for seed in (1, 2))
    expected = (left.double() * right.double()).sum((2, 3))
    if last:
        left, right = (t.contiguous(memory_format=torch.channels_last) for t in (left, right))
    assert torch.equal(dots(left, right, 1), expected)
    assert torch.equal(
        sizes([left], 1, ["absolute"])["absolute"], left.double().abs().sum((0, 2, 3))
    )


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 40, 50)], ids=str)
@pytest.mark.parametrize("samples", [254, 255, 256, 511, 1000])
@pytest.mark.parametrize("piece", [1, 100, 255, 256, 1000])
def test_a_count_does_not_end_where_a_byte_does(
    shape: tuple[int, ...], samples: int, piece: int
) -> None:
    whole = torch.ones(()).expand(samples, *shape)
    found = sizes(whole.split(piece), 1, ["others"])["others"]
    assert found.tolist() == [float(samples * whole[0, 0].numel())] * 3


def test_only_what_is_wanted_is_made() -> None:
    part = torch.tensor([[1.0, -2.0]])
    assert sizes([part], 1, ["absolute"]).keys() == {"absolute"}
    assert sizes([part], 1, ["others"]).keys() == {"others"}


@pytest.mark.parametrize("odd", [torch.nan, torch.inf, -torch.inf, 1e-45, -1e-45])
def test_what_is_odd_is_not_zero(odd: float) -> None:
    found = sizes([torch.tensor([[odd, -0.0, 0.0]])], 1, ["others"])["others"]
    assert found.tolist() == [1.0, 0.0, 0.0]


def test_an_activation_that_wants_a_gradient_is_counted_and_multiplied() -> None:
    a = torch.tensor([[1.0, 0.0]], requires_grad=True)
    assert sizes([a], 1, ["others"])["others"].tolist() == [1.0, 0.0]
    assert dots(a, a, 1).tolist() == [[1.0, 0.0]]

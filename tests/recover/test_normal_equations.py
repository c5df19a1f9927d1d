from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from secateur.errors import DataError
from secateur.recover.normal_equations import NormalEquations


def sums(x: Tensor, y: Tensor, *, constant: bool, pieces: int = 3) -> NormalEquations:
    found = NormalEquations(len(x), x.shape[2], y.shape[2], constant=constant, device=x.device)
    for piece in zip(x.tensor_split(pieces, 1), y.tensor_split(pieces, 1), strict=True):
        found.add(*piece)
    return found


@given(st.integers(0, 10_000), st.booleans(), st.sampled_from([0.0, 1e-3, 1.0]), st.integers(1, 5))
def test_nothing_near_is_better(seed: int, constant: bool, ridge: float, pieces: int) -> None:
    draw = torch.Generator().manual_seed(seed)

    def drawn(*sizes: int) -> Tensor:
        return torch.randn(*sizes, generator=draw, dtype=torch.float64)

    x, y, present = drawn(2, 20, 4) + 3, drawn(2, 20, 3), drawn(2, 4, 3)
    start = drawn(2, 3) if constant else None
    weight, best = sums(x, y, constant=constant, pieces=pieces).solve(present, start, ridge, "")
    held = x - x.mean(1, keepdim=True) if constant else x
    pull = ridge * held.square().sum(1).mean(1).reshape(2, 1, 1)

    def loss(w: Tensor, b: Tensor) -> Tensor:
        out = x @ w + b.unsqueeze(1) - y
        return out.square().sum() + (pull * (w - present).square()).sum()

    b = torch.zeros(2, 3, dtype=torch.float64) if best is None else best
    weight, b = weight.requires_grad_(), b.requires_grad_()
    slopes = torch.autograd.grad(loss(weight, b), [weight, b])
    assert slopes[0].abs().max() < 1e-9
    assert best is None or slopes[1].abs().max() < 1e-9


def test_far_from_zero_what_varies_is_not_lost() -> None:
    x = torch.randn(1, 50, 3, dtype=torch.float64)
    y = x @ torch.ones(1, 3, 2, dtype=torch.float64)
    weight, constant = sums(1e5 + x, y, constant=True).solve(
        torch.zeros(1, 3, 2, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64), 0.0, ""
    )
    torch.testing.assert_close(weight, torch.ones_like(weight), rtol=1e-6, atol=1e-6)
    assert constant is not None
    torch.testing.assert_close(constant, torch.full_like(constant, -3e5), rtol=1e-6, atol=0)


@pytest.mark.parametrize("level", [0.0, 1.0, -1e6])
def test_an_input_that_does_not_vary_keeps_its_weight(level: float) -> None:
    x, y = torch.randn(1, 30, 3, dtype=torch.float64), torch.randn(1, 30, 2, dtype=torch.float64)
    x[..., 1] = level * (1 + 1e-9 * torch.randn(30, dtype=torch.float64))
    present = torch.randn(1, 3, 2, dtype=torch.float64)
    for ridge in (0.0, 1e-3):
        weight, _ = sums(x, y, constant=True).solve(present, torch.zeros(1, 2), ridge, "")
        assert torch.equal(weight[:, 1], present[:, 1])
        assert not torch.isclose(weight[:, ::2], present[:, ::2]).any()


def test_systems_without_an_answer() -> None:
    x, y = torch.randn(1, 30, 3, dtype=torch.float64), torch.randn(1, 30, 2, dtype=torch.float64)
    present, start = torch.zeros(1, 3, 2, dtype=torch.float64), torch.zeros(1, 2)
    with pytest.raises(DataError, match="depend on each other") as caught:
        sums(x[:, :3], y[:, :3], constant=True, pieces=1).solve(present, start, 0.0, "fc")
    assert caught.value.where == "fc"
    sums(x[:, :3], y[:, :3], constant=True, pieces=1).solve(present, start, 1e-3, "fc")
    twins = torch.cat([x, x[..., :1] + x[..., 1:2]], 2)
    for constant in (True, False):
        with pytest.raises(DataError, match="depend on each other"):
            none = torch.zeros(1, 4, 2, dtype=torch.float64)
            sums(twins, y, constant=constant).solve(none, start if constant else None, 0.0, "fc")
    y[0, 0, 0] = float("inf")
    with pytest.raises(DataError, match="not finite"):
        sums(x, y, constant=True).solve(present, start, 1e-3, "fc")

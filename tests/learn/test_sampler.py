"""The sampler against its definition, drawn one by one."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from secateur.errors import OptionError
from secateur.learn.noise import gumbel
from secateur.learn.relaxed import _by_logarithms, _by_sums, _Row
from secateur.learn.sampler import (
    DrawOrder,
    Relaxation,
    Sampler,
    most_likely,
)

pytestmark = pytest.mark.usefixtures("drawn_by")

CPU = torch.device("cpu")


def twin(logits: Tensor, noise: Tensor, k: int, tau: float, how: Sampler) -> Tensor:
    """methods.md 2.2 word by word: k tensors of relaxed draws, one after the other."""
    value = logits + how.noise * noise
    chosen = value.topk(k, dim=1).indices
    if how.order is DrawOrder.POSITION:
        chosen = chosen.sort(dim=1).values
    gone = torch.zeros_like(value, dtype=torch.bool)
    mask = torch.zeros_like(value)
    for i in range(k):
        hard = torch.zeros_like(value).scatter(1, chosen[:, i : i + 1], 1.0)
        left = (value / tau).masked_fill(gone, -math.inf)
        soft = left.softmax(1) if how.relaxation is Relaxation.SOFTMAX else left.sigmoid()
        mask = mask + (hard - soft).detach() + soft
        gone = gone | hard.bool()
    return mask


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, int]:
    rows, n = draw(st.integers(1, 5)), draw(st.integers(1, 12))
    k = draw(st.integers(1, n))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    spread = draw(st.sampled_from([0.1, 1.0, 20.0]))
    logits = spread * torch.randn(rows, n, generator=generator, dtype=torch.float64)
    upstream = torch.randn(rows, n, generator=generator, dtype=torch.float64)
    return logits, gumbel((rows, n), 3, CPU).double(), upstream, k


@settings(deadline=None, max_examples=150)
@given(
    cases(),
    st.sampled_from(Relaxation),
    st.sampled_from(DrawOrder),
    st.sampled_from([5.0, 0.5, 0.05]),
    st.sampled_from([0.0, 0.1, 1.0]),
)
def test_value_and_gradient_are_those_of_draws_one_by_one(
    case: tuple[Tensor, Tensor, Tensor, int],
    relaxation: Relaxation,
    order: DrawOrder,
    tau: float,
    noise: float,
) -> None:
    logits, draws, upstream, k = case
    how = Sampler(noise, relaxation, order)
    fast, slow = (logits.clone().requires_grad_() for _ in range(2))
    mask, plain = how.draw(fast, k, tau, draws), twin(slow, draws, k, tau, how)
    torch.testing.assert_close(mask, plain, rtol=0, atol=1e-12)
    (mask * upstream).sum().backward()
    (plain * upstream).sum().backward()
    assert fast.grad is not None
    torch.testing.assert_close(fast.grad, slow.grad, rtol=1e-8, atol=1e-10 / tau)


@settings(deadline=None, max_examples=50)
@given(cases())
def test_sums_and_logarithms_agree(case: tuple[Tensor, Tensor, Tensor, int]) -> None:
    logits, draws, upstream, k = case
    value = logits + draws
    drawn = value.topk(k, dim=1).indices
    x, g = value.gather(1, drawn), upstream.gather(1, drawn)
    others = value.scatter(1, drawn, -math.inf)
    top = x.amin(1, keepdim=True)
    z = (others - top).exp()
    row = _Row(top, z.sum(1, True), (z * upstream).sum(1, True))
    sums = _by_sums(row, x, g)
    assert sums is not None
    for one, other in zip(sums, _by_logarithms(row, x, g), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)


def test_a_spread_that_no_number_format_holds() -> None:
    logits = torch.tensor([[2000.0, 1000.0, 10.0, 9.0, 8.0]], dtype=torch.float64)
    upstream = torch.tensor([[1.0, -2.0, 3.0, -4.0, 5.0]], dtype=torch.float64)
    fast, slow = (logits.clone().requires_grad_() for _ in range(2))
    none = torch.zeros_like(logits)
    (Sampler(0.0).draw(fast, 3, 0.5, none) * upstream).sum().backward()
    (twin(slow, none, 3, 0.5, Sampler(0.0)) * upstream).sum().backward()
    assert fast.grad is not None
    assert bool(fast.grad.isfinite().all())
    assert float(fast.grad.abs().max()) > 0.1
    torch.testing.assert_close(fast.grad, slow.grad)


@settings(deadline=None, max_examples=60)
@given(cases(), st.sampled_from(DrawOrder))
def test_every_row_has_k_ones_and_gradients_that_cancel(
    case: tuple[Tensor, Tensor, Tensor, int], order: DrawOrder
) -> None:
    logits, draws, upstream, k = case
    leaf = logits.clone().requires_grad_()
    mask = Sampler(order=order).draw(leaf, k, 0.7, draws)
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    assert mask.sum(1).tolist() == [k] * len(mask)
    (mask * upstream).sum().backward()
    assert leaf.grad is not None
    scale = float(upstream.abs().max()) * k / 0.7
    assert float(leaf.grad.sum(1).abs().max()) <= 1e-12 * scale


@pytest.mark.parametrize("relaxation", Relaxation)
@pytest.mark.parametrize("order", DrawOrder)
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_a_graph_that_is_kept_gives_the_same_again(
    relaxation: Relaxation, order: DrawOrder, kind: torch.dtype
) -> None:
    logits = torch.randn(4, 40, dtype=kind, requires_grad=True)
    noise = gumbel((4, 40), 1, CPU).to(kind)
    before, upstream = noise.clone(), torch.randn(4, 40, dtype=kind)
    mask = Sampler(0.5, relaxation, order).draw(logits, 7, 0.6, noise)
    (one,) = torch.autograd.grad(mask, logits, upstream, retain_graph=True)
    (other,) = torch.autograd.grad(mask, logits, upstream)
    assert torch.equal(one, other)
    assert torch.equal(noise, before)


def test_equal_values_still_make_exactly_k() -> None:
    mask = Sampler(0.0).draw(torch.zeros(3, 8), 5, 1.0, torch.zeros(3, 8))
    assert mask.sum(1).tolist() == [5.0, 5.0, 5.0]
    assert most_likely(torch.zeros(2, 4), 2).tolist() == [[True, True, False, False]] * 2


def test_without_noise_the_highest_logits_are_drawn() -> None:
    logits = torch.randn(6, 9, generator=torch.Generator().manual_seed(1))
    mask = Sampler(0.0).draw(logits, 4, 1.0, gumbel((6, 9), 0, CPU))
    assert torch.equal(mask.bool(), most_likely(logits, 4))


def test_one_of_n_is_straight_through_gumbel_softmax() -> None:
    logits = torch.randn(4, 6, generator=torch.Generator().manual_seed(2), requires_grad=True)
    noise, upstream = gumbel((4, 6), 5, CPU), torch.arange(24.0).view(4, 6)
    mask = Sampler().draw(logits, 1, 0.5, noise)
    (found,) = torch.autograd.grad((mask * upstream).sum(), logits)
    soft = ((logits + noise) / 0.5).softmax(1)
    (wanted,) = torch.autograd.grad((soft * upstream).sum(), logits)
    assert torch.equal(mask.argmax(1), soft.argmax(1))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_all_of_n_is_the_dense_layer() -> None:
    logits = torch.randn(3, 5, requires_grad=True)
    mask = Sampler().draw(logits, 5, 0.5, gumbel((3, 5), 0, CPU))
    assert torch.equal(mask, torch.ones(3, 5))
    mask.sum().backward()
    assert logits.grad is not None
    assert float(logits.grad.abs().max()) < 1e-5


def test_noise_follows_its_seed_and_is_gumbel() -> None:
    assert torch.equal(gumbel((2, 3), 7, CPU), gumbel((2, 3), 7, CPU))
    assert not torch.equal(gumbel((2, 3), 7, CPU), gumbel((2, 3), 8, CPU))
    many = gumbel((1000, 400), 1, CPU)
    assert bool(many.isfinite().all())
    # mean 0.5772, variance pi^2/6: five standard errors of 400,000 draws, error rate 1e-6
    assert abs(float(many.mean()) - 0.57722) < 5 * 1.2825 / math.sqrt(4e5)
    assert abs(float(many.var()) - math.pi**2 / 6) < 0.025


@pytest.mark.parametrize("noise", [-1.0, math.inf, math.nan])
def test_a_scale_that_is_none(noise: float) -> None:
    with pytest.raises(OptionError, match="scale"):
        Sampler(noise)


@pytest.mark.parametrize(
    "wrong",
    [
        {"relaxation": "sigmoid"},
        {"order": "position"},
        {"compiled": "no"},
        {"compiled": 1},
        {"noise": "a"},
        {"noise": -1.0},
    ],
)
def test_options_are_values(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(wrong))):
        Sampler(**wrong)


@pytest.mark.parametrize(
    ("k", "noise"),
    [(0, (2, 10)), (11, (2, 10)), (200, (2, 10)), (3, (2, 9)), (3, (4, 10)), (3, (20,))],
)
def test_what_cannot_be_drawn_is_refused(k: int, noise: tuple[int, ...]) -> None:
    with pytest.raises(OptionError, match="Sampler"):
        Sampler().draw(torch.randn(2, 10), k, 1.0, torch.zeros(noise))


def test_logits_that_are_meant_negative() -> None:
    logits = torch.randn(3, 20)
    noise = gumbel((3, 20), 0, CPU)
    negative = torch.complex(torch.zeros(3, 20), -logits).conj().imag
    assert negative.is_neg()
    expected = Sampler().draw(logits, 4, 1.0, noise)
    assert torch.equal(Sampler().draw(negative, 4, 1.0, noise), expected)

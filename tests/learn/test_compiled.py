"""Compiled loops against a plain sort, the calls that they stand for, and draws made one by one."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import secateur as sec
from secateur.errors import OptionError
from secateur.learn import compiled, relaxed
from secateur.learn.choice import Choice
from secateur.learn.entropy import total_entropy
from secateur.learn.noise import gumbel
from secateur.learn.sampler import DrawOrder, Relaxation, Sampler
from secateur.learn.selection import highest
from tests.learn.test_sampler import twin

CPU = torch.device("cpu")
has_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="there is no C compiler"
)


def check(value: Tensor, k: int) -> None:
    """Those of a stable sort, values and places."""
    logits = torch.where(torch.rand(value.shape) < 0.5, 0.0, 0.25)
    both = (value - logits).contiguous()
    value = both + logits
    places, found = compiled.highest(logits, both, k)
    assert torch.equal(both.nan_to_num(7), value.nan_to_num(7))
    wanted = value.sort(dim=1, descending=True, stable=True)
    assert torch.equal(found, wanted.values[:, :k])
    starts = torch.arange(0, value.numel(), value.shape[1])[:, None]
    assert torch.equal(places, wanted.indices[:, :k] + starts)


@has_compiler
@settings(deadline=None, max_examples=80)
@given(
    st.integers(1, 6),
    st.integers(1, 700),
    st.floats(0.0, 1.0),
    st.sampled_from([1, 3, 0]),
    st.sampled_from([1e-30, 1.0, 1e30]),
    st.integers(0, 2**31),
)
def test_the_highest_are_those_of_a_sort(
    rows: int, n: int, share: float, levels: int, scale: float, seed: int
) -> None:
    value = torch.randn(rows, n, generator=torch.Generator().manual_seed(seed)) * scale
    if levels:  # many are equal, or all; and there are two zeros
        value = (value / scale).clamp(-1, 1).mul(levels - 1).round()
    check(value, max(1, round(share * n)))


@has_compiler
@pytest.mark.parametrize("k", [1, 39, 113, 114, 127, 128, 129, 4999, 5000])
def test_long_rows_few_and_many(k: int) -> None:
    check(gumbel((3, 5000), k, CPU), k)
    check(gumbel((3, 5000), k, CPU).sort(dim=1).values, k)
    check(gumbel((5000, 3), k, CPU).T, k)  # columns of another tensor


@has_compiler
def test_infinite_values_and_nan_still_make_k_a_row() -> None:
    value = gumbel((4, 64), 2, CPU)
    value[0, 5], value[1, :60], value[2], value[3, 3] = math.inf, -math.inf, -math.inf, -math.inf
    check(value, 8)
    value[1, 7], value[2] = math.nan, math.nan
    places, _ = compiled.highest(torch.zeros(4, 64), value, 8)
    assert all(len(set(row)) == 8 for row in places.tolist())
    assert torch.equal(places // 64, torch.arange(4).unsqueeze(1).expand(4, 8))


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, int]:
    rows, n = draw(st.integers(1, 4)), draw(st.sampled_from([1, 2, 7, 15, 16, 17, 40]))
    k = draw(st.integers(1, n))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    logits = draw(st.sampled_from([0.1, 1.0, 20.0])) * torch.randn(rows, n, generator=generator)
    return logits, gumbel((rows, n), 3, CPU), torch.randn(rows, n, generator=generator), k


@has_compiler
@settings(deadline=None, max_examples=80)
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
    how = Sampler(noise, relaxation, order, compiled=True)
    fast, slow = logits.clone().requires_grad_(), logits.double().requires_grad_()
    mask = how.draw(fast, k, tau, draws)
    plain = twin(slow, draws.double(), k, tau, how)
    assert torch.equal(mask, replace(how, compiled=False).draw(logits, k, tau, draws))
    torch.testing.assert_close(mask.double(), plain, rtol=0, atol=1e-12)
    (mask * upstream).sum().backward()
    (plain * upstream.double()).sum().backward()
    assert fast.grad is not None
    assert slow.grad is not None
    scale = (
        k / tau * (1.0 + float(logits.abs().max()) / tau)
    )  # logits are float32, so are their sums
    torch.testing.assert_close(fast.grad.double(), slow.grad, rtol=1e-5, atol=1e-6 * scale)


@has_compiler
@pytest.mark.parametrize(("n", "k"), [(784, 39), (784, 235), (300, 300), (9001, 4)])
def test_gradients_are_those_of_calls(n: int, k: int) -> None:
    value = gumbel((20, n), k, CPU) + torch.randn(20, n)
    choice = Choice(value, *highest(value, k))
    upstream = torch.randn(n, 20).T
    found = compiled.through_softmax(choice, upstream, 0.7)
    assert found is not None
    exact = Choice(value.double(), choice.places, choice.highest.double())
    wanted = relaxed.through_softmax(exact, upstream.double(), 0.7)
    torch.testing.assert_close(found.double(), wanted, rtol=2e-6, atol=2e-6)


@has_compiler
def test_what_no_number_format_holds_goes_the_other_way() -> None:
    value = torch.tensor([[2000.0, 1000.0, 10.0, 9.0, 8.0]])
    choice = Choice(value, *highest(value, 3))
    assert compiled.through_softmax(choice, torch.ones(1, 5), 0.5) is None
    logits = value.clone().requires_grad_()
    upstream = torch.tensor([[1.0, -2.0, 3.0, -4.0, 5.0]])
    found, wanted = (
        torch.autograd.grad(
            Sampler(0.0, compiled=each).draw(logits, 3, 0.5, 0 * value), logits, upstream
        )
        for each in (True, False)
    )
    assert torch.equal(found[0], wanted[0])
    assert float(found[0].abs().max()) > 0.1


@has_compiler
def test_a_gradient_that_is_not_finite_stays_so() -> None:
    logits = torch.zeros(1, 20, requires_grad=True)
    mask = Sampler(compiled=True).draw(logits, 4, 1.0, gumbel((1, 20), 0, CPU))
    (found,) = torch.autograd.grad(mask, logits, torch.full((1, 20), math.inf))
    assert not bool(found.isfinite().any())


@has_compiler
@settings(deadline=None, max_examples=30)
@given(cases())
def test_entropies_are_those_of_calls(case: tuple[Tensor, Tensor, Tensor, int]) -> None:
    logits, other, _, _ = case
    fast = [each.clone().requires_grad_() for each in (logits, other.T)]
    slow = [each.double().requires_grad_() for each in (logits, other.T)]
    found, wanted = total_entropy(fast, by_loops=True), total_entropy(slow)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)
    pairs = zip(
        torch.autograd.grad(3.0 * found, fast), torch.autograd.grad(3.0 * wanted, slow), strict=True
    )
    for one, exact in pairs:
        torch.testing.assert_close(one.double(), exact, rtol=1e-5, atol=2e-5)


@has_compiler
def test_equal_logits_have_the_highest_entropy_and_nan_has_none() -> None:
    long = torch.full((2, 9001), -3.0, requires_grad=True)
    found = total_entropy([long], by_loops=True)
    assert float(found.detach()) == pytest.approx(2 * math.log(9001))
    (back,) = torch.autograd.grad(found, long)
    assert float(back.abs().max()) < 1e-9
    sure = torch.tensor([[300.0, 0.0, -300.0]])
    assert float(total_entropy([sure], by_loops=True)) == 0.0
    assert math.isnan(float(total_entropy([sure * math.nan], by_loops=True)))


@has_compiler
def test_float64_is_drawn_by_calls() -> None:
    logits = torch.randn(3, 40, dtype=torch.float64)
    noise = gumbel((3, 40), 0, CPU).double()
    masks = [Sampler(compiled=each).draw(logits, 5, 1.0, noise) for each in (True, False)]
    assert torch.equal(*masks)


@has_compiler
def test_a_training_draws_the_same_masks() -> None:
    def trained(*, fast: bool) -> tuple[list[Tensor], Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 4))
        x, y = torch.randn(16, 40), torch.randint(4, (16,))
        sampler = Sampler(compiled=fast)
        made = sec.gate(model, sec.groups(model, x, sec.Weights()), 0.1, sampler=sampler, example=x)
        optimizer = torch.optim.SGD(made.parameter_groups(), lr=0.1)
        masks = []
        made.model.train()
        for _ in range(5):
            optimizer.zero_grad()
            F.cross_entropy(made.model(x), y).backward()
            optimizer.step()
            masks += [gate().detach() for gate in made.gates.values()]
        return masks, next(iter(made.gates.values())).logits.detach()

    (masks, logits), (others, by_calls) = trained(fast=True), trained(fast=False)
    assert all(map(torch.equal, masks, others))
    torch.testing.assert_close(logits, by_calls, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("no-such-compiler", "not start"),
        ("false", "fails with exit code 1"),
        ("true", "cannot be had"),  # it makes nothing
        ("gcc '", "cannot be had"),
        (None, "no C compiler"),
    ],
)
def test_without_a_compiler_it_says_so(
    command: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if command is None:
        monkeypatch.delenv("CC", raising=False)
        monkeypatch.setenv("PATH", "")
    else:
        monkeypatch.setenv("CC", command)
    for known in (compiled.library, compiled.available):
        known.cache_clear()
    try:
        with pytest.raises(OptionError, match=said) as error:
            Sampler(compiled=True)
        assert not Sampler().loops(torch.zeros(2, 3))
    finally:
        for known in (compiled.library, compiled.available):
            known.cache_clear()
    assert "only the time differs" in str(error.value)


@has_compiler
def test_loops_are_usual_where_they_fit() -> None:
    value = torch.zeros(2, 3)
    assert Sampler().loops(value)
    assert not Sampler(compiled=False).loops(value)
    assert not any(Sampler(compiled=each).loops(value.double()) for each in (None, True, False))


@pytest.mark.parametrize("by_loops", [False, pytest.param(True, marks=has_compiler)])
def test_entropies_are_exact_under_autocast_and_far_from_zero(by_loops: bool) -> None:
    logits = torch.randn(50, 300, generator=torch.Generator().manual_seed(0))
    p = logits.double().softmax(1)
    wanted = float(torch.special.entr(p).sum())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = total_entropy([logits], by_loops=by_loops)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(wanted, rel=1e-6)
    far = torch.randint(-4, 5, (50, 300), generator=torch.Generator().manual_seed(0)) / 4 + 1e4
    exact = float(torch.special.entr(far.double().softmax(1)).sum())
    assert float(total_entropy([far], by_loops=by_loops)) == pytest.approx(exact, rel=1e-6)

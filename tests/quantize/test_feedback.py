"""Rounding with feedback, against a slow twin that inverts what is left at every step."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from secateur.errors import DataError
from secateur.learn import Quantizer
from secateur.learn.quantize import BITS, largest
from secateur.quantize.feedback import feedback
from secateur.quantize.scale import fitted


def twin(weights: Tensor, gram: Tensor, scale: Tensor, bits: int, damping: float) -> Tensor:
    """One group, from the definition: (o, k), (k, k), (o,) -> codes. F is inverted anew each time."""
    damped = gram + damping * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    for i in range(len(gram)):
        if gram[i, i] == 0:
            damped[i, i] = 1.0
    order = gram.diagonal().argsort(descending=True, stable=True).tolist()
    codes = torch.zeros_like(weights)
    for row in range(len(weights)):
        w, live = weights[row].clone(), list(order)
        for j in order:
            inverse = torch.linalg.inv(damped[live][:, live])
            code = torch.zeros(())
            if weights[row, j] != 0:
                code = (w[j].float() / scale[row]).round() if bits > 1 else w[j].float().sign()
            codes[row, j] = code.clamp(-largest(bits), largest(bits))
            error = (w[j] - codes[row, j] * scale[row]) / inverse[0, 0]
            for place, other in enumerate(live):
                w[other] -= error * inverse[0, place]
            live.remove(j)
    return codes


def inputs(seed: int, rows: int, size: int) -> Tensor:
    own = torch.Generator().manual_seed(seed)
    mixed = torch.randn(rows, size, generator=own) @ torch.randn(size, size, generator=own)
    return mixed.double()


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 10**6), st.sampled_from(BITS), st.integers(1, 9), st.integers(1, 4),
    st.floats(0, 0.9), st.sampled_from([0.0, 0.01, 0.3]),
)  # fmt: skip
def test_it_is_its_slow_twin(
    seed: int, bits: int, size: int, outputs: int, zeros: float, damping: float
) -> None:
    own = torch.Generator().manual_seed(seed)
    weights = torch.randn(2, outputs, size, generator=own).double()
    weights *= torch.rand(2, outputs, size, generator=own) >= zeros
    grams = torch.stack([x.T @ x for x in (inputs(seed + i, 4 * size + 3, size) for i in range(2))])
    quantizer = Quantizer(bits)
    scale = torch.stack([quantizer.scale(one) for one in weights])
    found = feedback(weights, grams, scale, quantizer, damping, "layer")
    assert found.dtype == torch.int8
    assert not bool(found[weights == 0].any())
    wanted = torch.stack(
        [twin(w, g, s, bits, damping) for w, g, s in zip(weights, grams, scale, strict=True)]
    )
    assert torch.equal(found.double(), wanted)


def test_feedback_reaches_the_columns_of_later_blocks() -> None:
    own = torch.Generator().manual_seed(0)
    weights = torch.randn(1, 2, 140, generator=own).double()
    x = inputs(1, 600, 140)
    scale = Quantizer(4).scale(weights[0])[None]
    found = feedback(weights, (x.T @ x)[None], scale, Quantizer(4), 0.01, "layer")
    assert torch.equal(found[0].double(), twin(weights[0], x.T @ x, scale[0], 4, 0.01))


def test_inputs_that_do_not_depend_on_each_other_need_no_feedback() -> None:
    """Known answer: with a diagonal Gram matrix it is rounding to the nearest."""
    own = torch.Generator().manual_seed(0)
    weights = torch.randn(1, 6, 20, generator=own).double()
    gram = torch.diag(torch.rand(20, generator=own).double() + 0.1)[None]
    scale = Quantizer(4).scale(weights[0])[None]
    found = feedback(weights, gram, scale, Quantizer(4), 0.0, "layer")
    assert torch.equal(found[0].float(), Quantizer(4).round(weights[0], scale[0]))


def test_two_equal_inputs_share_the_work() -> None:
    """Known answer: 0.4 and 0.4 steps on one and the same input are 0.8: one rounds down, one up."""
    x = torch.randn(50, 1, dtype=torch.float64).expand(50, 2)
    weights = torch.full((1, 1, 2), 0.4, dtype=torch.float64)
    found = feedback(weights, (x.T @ x)[None], torch.ones(1, 1), Quantizer(4), 1e-6, "layer")
    assert found.flatten().tolist() == [0, 1]


@pytest.mark.parametrize(("bits", "zeros", "most"), [(4, 0.0, 0.6), (4, 0.5, 0.9), (2, 0.5, 0.9)])
def test_the_output_changes_less_than_by_rounding_to_the_nearest(
    bits: int, zeros: float, most: float
) -> None:
    own = torch.Generator().manual_seed(3)
    weights = torch.randn(16, 30, generator=own).double()
    weights *= torch.rand(16, 30, generator=own) >= zeros
    x = inputs(5, 300, 30)
    quantizer = Quantizer(bits)
    scale = quantizer.scale(weights)
    codes = feedback(weights[None], (x.T @ x)[None], scale[None], quantizer, 0.01, "layer")[0]
    plain = quantizer.round(weights, scale)
    lost = [float(((q * scale[:, None] - weights) @ x.T).square().sum()) for q in (codes, plain)]
    assert lost[0] < most * lost[1]


def test_what_no_factor_can_be_made_of() -> None:
    gram = torch.ones(1, 2, 2, dtype=torch.float64)
    weights, scale = torch.ones(1, 1, 2, dtype=torch.float64), torch.ones(1, 1)
    with pytest.raises(DataError, match="depend on each other") as caught:
        feedback(weights, gram, scale, Quantizer(4), 0.0, "head")
    assert caught.value.where == "head"
    with pytest.raises(DataError, match="not finite"):
        feedback(weights, gram * torch.inf, scale, Quantizer(4), 0.01, "head")


@given(st.integers(0, 10**6), st.sampled_from([2, 4, 8]), st.booleans())
@settings(deadline=None, max_examples=30)
def test_no_scale_of_the_fractions_is_better(seed: int, bits: int, per_channel: bool) -> None:
    own = torch.Generator().manual_seed(seed)
    weights = torch.randn(3, 12, generator=own)
    importance = torch.rand(3, 12, generator=own)
    quantizer = Quantizer(bits, per_channel)

    def lost(scale: Tensor) -> Tensor:
        step = scale[:, None] if scale.dim() else scale
        codes = (weights / step).round().clamp(-largest(bits), largest(bits))
        each = ((weights - codes * step).double().square() * importance).sum(1)
        return each if scale.dim() else each.sum()

    best = fitted(weights, importance, quantizer)
    assert best.shape == quantizer.scale(weights).shape
    for percent in range(10, 101, 2):
        other = quantizer.scale(weights) * (percent / 100)
        assert bool((lost(best) <= lost(other) * 1.001 + 1e-9).all())
    # 16 binary digits, so that a code times it is exact
    assert not bool((best.view(torch.int32) & 0xFF).any())

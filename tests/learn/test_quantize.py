from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrize

from secateur.errors import ModelError, OptionError
from secateur.learn import Quantizer, StraightThrough
from secateur.learn.quantize import BITS, straight_through

SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)


def slow_scales(values: Tensor, quantizer: Quantizer) -> list[float]:
    """One weight at a time, before the scale is shortened."""
    each = quantizer.per_channel and values.dim() > 1
    top = {1: 1, 2: 1, 4: 7, 8: 127}[quantizer.bits]
    scales = []
    for row in values if each else [values]:
        sizes = [abs(w) for w in row.flatten().tolist() if w]
        if not sizes:
            scales.append(0.0)
        elif quantizer.bits == 1:
            scales.append(sum(sizes) / len(sizes))
        else:
            scales.append(max(sizes) / top)
    return scales


def slow_codes(w: float, scale: float, bits: int, *, masked: bool) -> set[int]:
    """The code of one weight; two of them in the middle, where float32 may take either."""
    if bits == 1:
        return {1 if w > 0 or (w == 0 and masked) else -1 if w < 0 else 0}
    if not scale:
        return {0}
    exact = w / scale
    return {round(exact - 1e-5), round(exact + 1e-5)}


def fake(values: Tensor, quantizer: Quantizer, *, masked: bool = False) -> Tensor:
    found: Tensor = quantizer.build(masked=masked)(values)
    return found


@given(SHAPES, st.sampled_from(BITS), st.booleans(), st.booleans(), st.integers(0, 10**6))
def test_it_agrees_with_one_weight_at_a_time(
    shape: tuple[int, ...], bits: int, per_channel: bool, masked: bool, seed: int
) -> None:
    own = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=own) * 10.0 ** (seed % 9 - 4)
    values[torch.rand(shape, generator=own) < 0.2] = 0.0
    quantizer = Quantizer(bits, per_channel)
    scale = quantizer.scale(values)
    slow = slow_scales(values, quantizer)
    assert scale.flatten().tolist() == pytest.approx(slow, rel=1.01 * 2**-16, abs=0)
    assert all(short_of(one) for one in scale.flatten().tolist())
    found = fake(values, quantizer, masked=masked)
    for i, (w, q) in enumerate(
        zip(values.flatten().tolist(), found.flatten().tolist(), strict=True)
    ):
        own_scale = scale.flatten().tolist()[i // (values.numel() // scale.numel())]
        assert q in {c * own_scale for c in slow_codes(w, own_scale, bits, masked=masked)}


def short_of(scale: float) -> bool:
    """Whether 16 binary digits hold it."""
    return (math.frexp(scale)[0] * 2**16).is_integer()


@given(SHAPES, st.sampled_from(BITS), st.booleans(), st.integers(0, 10**6))
def test_levels_and_what_is_on_the_grid_stays(
    shape: tuple[int, ...], bits: int, per_channel: bool, seed: int
) -> None:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    quantizer = Quantizer(bits, per_channel)
    once = fake(values, quantizer)
    assert torch.equal(fake(once, quantizer), once)
    assert torch.equal(quantizer.scale(once), quantizer.scale(values))
    for row in once if per_channel and values.dim() > 1 else [once]:
        assert row.unique().numel() <= max(2, 2**bits - 1)
    assert (once.sign() * values.sign() >= 0).all()


@pytest.mark.parametrize("bits", BITS)
def test_large_tensors_stay_on_the_grid_too(bits: int) -> None:
    """The mean of a million equal numbers is not quite one of them; its 16 digits are."""
    quantizer = Quantizer(bits, per_channel=False)
    once = fake(torch.randn(1000, 1000), quantizer)
    assert torch.equal(fake(once, quantizer), once)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_no_weight_moves_by_more_than_half_a_step(bits: int) -> None:
    values = torch.randn(50, 40)
    quantizer = Quantizer(bits)
    error = (fake(values, quantizer) - values).abs()
    assert (error <= quantizer.scale(values).unsqueeze(1) * (0.5 + 1e-3)).all()


def test_known_answers() -> None:
    values = torch.tensor([[127.0, -63.4, 0.4, 0.0], [7.0, 3.4, -3.6, -7.0]])
    assert fake(values, Quantizer(8)).tolist()[0] == [127.0, -63.0, 0.0, 0.0]
    assert fake(values, Quantizer(4)).tolist()[1] == [7.0, 3.0, -4.0, -7.0]
    assert fake(values, Quantizer(2)).tolist()[1] == [7.0, 0.0, -7.0, -7.0]
    assert fake(values, Quantizer(8, per_channel=False)).tolist()[1] == [7.0, 3.0, -4.0, -7.0]
    one = torch.tensor([[1.0, -3.0, -2.0, 2.0], [4.0, -4.0, 7.0, 0.0]])
    assert fake(one, Quantizer(1)).tolist() == [[2.0, -2.0, -2.0, 2.0], [5.0, -5.0, 5.0, 0.0]]
    whole = fake(one.clone().fill_(0.5), Quantizer(1, per_channel=False))
    assert whole.tolist() == [[0.5] * 4] * 2
    assert fake(one, Quantizer(1, scaled=False)).tolist() == [[1, -1, -1, 1], [1, -1, 1, 0]]


def test_one_bit_and_zero() -> None:
    values = torch.tensor([[0.0, -0.0, 3.0, -5.0]])
    assert fake(values, Quantizer(1)).tolist() == [[0.0, 0.0, 4.0, -4.0]]
    # a mask that follows says what is zero
    assert fake(values, Quantizer(1), masked=True).tolist() == [[4.0, 4.0, 4.0, -4.0]]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("masked", [False, True])
def test_a_channel_of_zeros_stays_one(bits: int, masked: bool) -> None:
    top = {1: 1.0, 2: 1.0, 4: 7.0, 8: 127.0}[bits]
    values = torch.tensor([[0.0, 0.0], [top, -top]])
    quantizer = Quantizer(bits)
    assert quantizer.scale(values)[0] == 0
    assert fake(values, quantizer, masked=masked).tolist() == values.tolist()
    assert not fake(torch.zeros(3, 2), Quantizer(bits, per_channel=False), masked=masked).any()


@pytest.mark.parametrize("bits", BITS)
def test_the_smallest_numbers_and_none(bits: int) -> None:
    tiny = torch.tensor([[1e-44, -1e-45]])
    assert fake(tiny, Quantizer(bits)).isfinite().all()
    assert fake(torch.ones(0, 3), Quantizer(bits)).shape == (0, 3)
    assert fake(torch.ones(3, 0), Quantizer(bits)).shape == (3, 0)
    assert fake(torch.tensor(0.5), Quantizer(bits)).item() == pytest.approx(0.5, rel=1e-4)


def test_gradients() -> None:
    values = torch.tensor([[0.3, -2.4], [2.5, -2.6]], requires_grad=True)
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    for bits in BITS:
        (fake(values, Quantizer(bits)) * weight).sum().backward()
        assert values.grad is not None
        assert torch.equal(values.grad, weight)  # the scale is a constant
        values.grad = None
        released = Quantizer(bits, through=StraightThrough.HARD_SIGMOID)
        (fake(values, released) * weight).sum().backward()
        expected = torch.autograd.grad(((0.4 * values).clamp(-1, 1) * weight).sum(), values)[0]
        assert torch.equal(values.grad, expected)
        assert values.grad[1, 1] == 0
        assert values.grad[0, 0] != 0
        values.grad = None


def test_straight_through_is_bit_for_bit() -> None:
    values = torch.randn(7, requires_grad=True)
    other = torch.randn(7)
    found = straight_through(values, other, StraightThrough.IDENTITY)
    assert torch.equal(found, other)
    assert found.requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("bits", BITS)
def test_other_dtypes_are_rounded_from_float32(dtype: torch.dtype, bits: int) -> None:
    values = torch.randn(4, 6).to(dtype)
    found = fake(values, Quantizer(bits))
    assert found.dtype == dtype
    assert torch.equal(found, fake(values.float(), Quantizer(bits)).to(dtype))


@pytest.mark.parametrize("bits", BITS)
def test_autocast_changes_no_weight(bits: int) -> None:
    layer = nn.Linear(6, 4)
    expected = fake(layer.weight, Quantizer(bits))
    parametrize.register_parametrization(layer, "weight", Quantizer(bits).build("weight"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer.weight.dtype == torch.float32
        assert torch.equal(layer.weight, expected)
        layer(torch.ones(2, 6)).float().sum().backward()
    assert layer.parametrizations.weight.original.grad is not None


def test_it_holds_no_state() -> None:
    assert not Quantizer().build("weight").state_dict()
    assert "bits=4" in repr(Quantizer(4).build())


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("per_channel", [False, True])
def test_weights_that_are_not_finite(bits: int, bad: float, per_channel: bool) -> None:
    values = torch.ones(3, 4)
    values[1, 2] = bad
    with pytest.raises(ModelError, match=r"fc\.weight.*finite"):
        Quantizer(bits, per_channel).build("fc.weight")(values)
    if bits == 1:
        with pytest.raises(ModelError, match="finite"):
            Quantizer(1, per_channel, scaled=False).build()(values)


def test_bad_options() -> None:
    for bits in (0, 3, 16, -1):
        with pytest.raises(OptionError, match="bits"):
            Quantizer(bits)
    with pytest.raises(OptionError, match="scale"):
        Quantizer(8, scaled=False)
    with pytest.raises(ModelError, match="int64"):
        Quantizer().build("w")(torch.ones(2, 2, dtype=torch.int64))


def test_how_many_scales() -> None:
    assert Quantizer(8).scales(7) == 7
    assert Quantizer(8, per_channel=False).scales(7) == 1
    assert Quantizer(1, scaled=False).scales(7) == 0
    assert Quantizer(8).scale(torch.ones(7, 3, 2)).shape == (7,)
    assert Quantizer(8).scale(torch.ones(7)).shape == ()
    assert Quantizer(8, per_channel=False).scale(torch.ones(7, 3)).shape == ()

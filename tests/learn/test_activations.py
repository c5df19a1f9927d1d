from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from secateur.errors import ModelError, OptionError
from secateur.learn import ActivationQuantizer, Quantizer, gate, input_ranges
from secateur.learn.activations import InputQuantizer
from tests.handmade import data, example, inside, net, same_state, state_of


def made(bits: int = 8, momentum: float = 0.1) -> InputQuantizer:
    return InputQuantizer(ActivationQuantizer(bits, momentum), "fc")


@given(st.sampled_from([2, 4, 8]), st.integers(0, 10**6), st.integers(1, 20))
def test_in_train_mode_nothing_is_clipped(bits: int, seed: int, n: int) -> None:
    x = torch.randn(n, generator=torch.Generator().manual_seed(seed))
    top = 2 ** (bits - 1) - 1
    found = made(bits).train()(x)
    step = float(x.abs().max()) / top
    assert found.unique().numel() <= 2 * top + 1
    assert ((found - x).abs() <= 0.501 * step).all()
    for value, q in zip(x.tolist(), found.tolist(), strict=True):
        exact = value / step
        assert min(abs(q / step - round(exact - 1e-4)), abs(q / step - round(exact + 1e-4))) < 1e-4


def test_running_mean_and_clipping_in_eval_mode() -> None:
    quantizer = made(8, momentum=0.25)
    for top in (4.0, 8.0, 2.0):
        quantizer.train()(torch.tensor([0.0, -top]))
    expected = (4.0 * 0.75 + 8.0 * 0.25) * 0.75 + 2.0 * 0.25
    assert quantizer.largest.item() == pytest.approx(expected)
    quantizer.eval()
    assert quantizer(torch.tensor([100.0, -100.0])).tolist() == pytest.approx([expected, -expected])
    assert quantizer.largest.item() == pytest.approx(expected)
    assert quantizer(torch.tensor([0.0])).item() == 0.0


def test_before_the_first_batch_and_all_zero() -> None:
    quantizer = made().eval()
    assert quantizer(torch.tensor([1.27, 0.504])).tolist() == pytest.approx([1.27, 0.5])
    assert quantizer.largest == 0
    assert quantizer.train()(torch.zeros(3)).tolist() == [0.0] * 3
    assert quantizer(torch.ones(0, 3)).shape == (0, 3)


def test_gradients_pass_unchanged() -> None:
    x = torch.tensor([0.3, -5.0, 9.0], requires_grad=True)
    quantizer = made(2).eval()
    quantizer.largest.fill_(1.0)
    (quantizer(x) * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_activations_that_are_not_finite(training: bool, bad: float) -> None:
    with pytest.raises(ModelError, match="fc: not all activations are finite"):
        made().train(training)(torch.tensor([1.0, bad]))


def test_on_a_network_and_off_again() -> None:
    model = net().eval()
    before, x = state_of(model), example()
    plain = model(x)
    attached = ActivationQuantizer(2).attach(model)
    assert set(attached.layers) == {"conv1", "conv2", "fc"}
    assert not torch.equal(model(x), plain)
    attached.remove()
    assert torch.equal(model(x), plain)
    assert same_state(model, before)
    ActivationQuantizer(4).attach(model).remove()  # and once more


def test_a_linear_and_a_convolution_by_hand() -> None:
    for layer, x, apply in (
        (nn.Linear(5, 3), torch.randn(2, 5), F.linear),
        (nn.Conv2d(2, 3, 3), torch.randn(1, 2, 5, 5), F.conv2d),
    ):
        ActivationQuantizer(4).attach(layer)
        scale = x.abs().max() / 7
        assert input_ranges(layer) == {"": 0.0}
        expected = apply(torch.round(x / scale) * scale, layer.weight, layer.bias)
        assert torch.allclose(layer(x), expected, atol=1e-6)
        assert torch.equal(layer(input=x), layer(x))  # by name as well


def test_ranges_are_carried_to_another_copy() -> None:
    model = net().train()
    attached = ActivationQuantizer(8).attach(model)
    assert set(input_ranges(model).values()) == {0.0}
    for x, _ in data():
        model(x)
    ranges = input_ranges(model)
    assert min(ranges.values()) > 0
    trained = copy.deepcopy(model).eval()  # a copy has quantisers of its own
    attached.remove()
    assert input_ranges(model) == {}
    ActivationQuantizer(8).attach(model, ranges)
    x = example()
    assert torch.equal(model.eval()(x), trained(x))
    state = trained.state_dict()
    assert state["fc.input_quantizer.largest"] == pytest.approx(ranges["fc"])


def test_autocast_and_half_precision() -> None:
    model = net().train()
    ActivationQuantizer(8).attach(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(example()).float().sum().backward()
    assert model.fc.get_submodule("input_quantizer").get_buffer("largest").dtype == torch.float32
    low = net().bfloat16().train()
    ActivationQuantizer(8).attach(low)
    low.bfloat16()(example().bfloat16()).sum().backward()
    assert low.eval()(example().bfloat16()).isfinite().all()
    x = torch.randn(3, 5).bfloat16()
    assert made()(x).dtype == torch.bfloat16


def test_hostile() -> None:
    for bits in (0, 1, 3, 16):
        with pytest.raises(OptionError, match="bits"):
            ActivationQuantizer(bits)
    for momentum in (0.0, 1.1, math.nan):
        with pytest.raises(OptionError, match="momentum"):
            ActivationQuantizer(8, momentum)
    with pytest.raises(ModelError, match="no Linear"):
        ActivationQuantizer().attach(nn.ReLU())
    model = net()
    with pytest.raises(OptionError, match="conv9"):
        ActivationQuantizer().attach(model, {"conv9": 1.0})
    for bad in (-1.0, math.nan, math.inf):
        before = state_of(model)
        with pytest.raises(OptionError, match="fc"):
            ActivationQuantizer().attach(model, {"fc": bad})
        assert same_state(model, before)
    ActivationQuantizer().attach(model)
    with pytest.raises(ModelError, match="conv1: its input is quantised already"):
        ActivationQuantizer().attach(model)


def test_with_gates() -> None:
    model = net()
    gated = gate(model, inside(model, "weight"), keep=0.5, quantizer=Quantizer(8))
    ActivationQuantizer(8).attach(gated.model)
    optimizer = torch.optim.SGD(gated.parameter_groups(), lr=0.01)
    seen: list[Tensor] = []
    gated.model.fc.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    for x, y in data():
        F.cross_entropy(gated.model.train()(x), y).backward()
        optimizer.step()
    assert all(one.unique().numel() <= 255 for one in seen)
    assert gated.plain().state_dict().keys() == model.state_dict().keys()

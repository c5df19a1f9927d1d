from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import secateur as sec
from secateur.errors import ModelError
from secateur.learn import Codes, Quantizer, codes, gate
from secateur.learn.quantize import BITS
from tests.handmade import channels, example, inside, net

SHAPES = st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple)


def bits_of(values: torch.Tensor) -> torch.Tensor:
    """To compare bit for bit; zero has one sign."""
    return (values + 0.0).view(torch.int32)


@given(SHAPES, st.sampled_from(BITS), st.booleans(), st.integers(0, 10**6))
def test_codes_are_the_quantised_values(
    shape: tuple[int, ...], bits: int, per_channel: bool, seed: int
) -> None:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    quantizer = Quantizer(bits, per_channel)
    quantized = quantizer.build()(values)
    found = codes(values, quantizer)
    assert found.codes.dtype == torch.int8
    assert found.codes.shape == values.shape
    assert torch.equal(bits_of(found.values()), bits_of(quantized))
    again = codes(quantized, quantizer)
    assert torch.equal(again.codes, found.codes)
    assert torch.equal(again.scale, found.scale)


@given(st.sampled_from(BITS), st.booleans(), st.integers(0, 10**6))
def test_masked_weights_are_read_off_the_grid_of_training(
    bits: int, per_channel: bool, seed: int
) -> None:
    own = torch.Generator().manual_seed(seed)
    values, quantizer = torch.randn(5, 7, generator=own), Quantizer(bits, per_channel)
    whole = codes(values, quantizer)
    mask = values.abs() < values.abs().amax(1, keepdim=True)  # the largest of each row is gone
    found = codes(whole.values() * mask, quantizer, whole.scale)
    assert torch.equal(found.codes, whole.codes * mask)
    assert torch.equal(found.values(), whole.values() * mask)


def test_without_its_scale_another_grid_is_found() -> None:
    """Why the scale has to be carried."""
    values, quantizer = torch.tensor([[127.0, 5.0]]), Quantizer(8)
    whole = codes(values, quantizer)
    masked = whole.values() * torch.tensor([[0.0, 1.0]])
    assert codes(masked, quantizer).codes.tolist() == [[0, 127]]
    assert codes(masked, quantizer, whole.scale).codes.tolist() == [[0, 5]]


def test_off_the_grid() -> None:
    scale = torch.tensor([0.5])
    for bad in ([[0.5, 0.3]], [[0.5, 4.0]], [[0.5, float("nan")]], [[0.5, float("inf")]]):
        with pytest.raises(ModelError, match="w: the weights are not on the grid"):
            codes(torch.tensor(bad), Quantizer(4), scale, where="w")
    assert codes(torch.tensor([[0.5, -3.5]]), Quantizer(4), scale).codes.tolist() == [[1, -7]]


@pytest.mark.parametrize("bits", BITS)
def test_half_precision(bits: int) -> None:
    values = torch.randn(4, 9).half()
    quantizer = Quantizer(bits)
    found = codes(values, quantizer)
    assert torch.equal(found.values().half(), quantizer.build()(values))
    read = codes(quantizer.build()(values), quantizer, found.scale)
    assert torch.equal(read.codes, found.codes)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("kind", ["kernel", "weight", "channel"])
@pytest.mark.parametrize("seen", [None, example()])
def test_a_gated_network_gives_the_codes_of_eval_mode(
    bits: int, kind: str, seen: torch.Tensor | None
) -> None:
    model = net()
    groups = channels(model) if kind == "channel" else inside(model, kind)
    gated = gate(model, groups, keep=0.5, quantizer=Quantizer(bits), example=seen)
    gated.model.train()
    found = gated.codes()
    assert gated.model.training
    assert set(found) == {"conv1.weight", "conv2.weight", "fc.weight"}
    gated.model.eval()
    for name, one in found.items():
        module, attribute = gated.places[name][0]
        assert torch.equal(bits_of(one.values()), bits_of(getattr(module, attribute).detach()))
        assert one.codes.unique().numel() <= (2**bits if bits > 1 else 3)
        latent = model.get_parameter(name)
        assert torch.equal(one.scale, Quantizer(bits).scale(latent))


@pytest.mark.parametrize("bits", BITS)
def test_a_state_of_codes_runs_as_the_gated_network(bits: int) -> None:
    model = net()
    gated = gate(model, inside(model, "weight"), keep=0.3, quantizer=Quantizer(bits))
    gated.model.eval()
    plain = gated.plain().eval()
    with torch.no_grad():
        for name, one in gated.codes().items():
            plain.get_parameter(name).copy_(one.values())
        x = example()
        assert torch.equal(plain(x), gated.model(x))


def test_without_a_quantizer_there_are_none() -> None:
    model = net()
    assert gate(model, inside(model, "weight"), keep=0.5).codes() == {}


def test_a_shared_weight_is_read_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(4, 4, bias=False)
            self.second = nn.Linear(4, 4, bias=False)
            self.second.weight = self.first.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x).relu())

    model = Tied()
    groups = sec.groups(model, torch.ones(2, 4), granularity=sec.Weights())
    gated = gate(model, groups, keep=0.5, quantizer=Quantizer(2))
    assert set(gated.codes()) == {"first.weight"}
    gated.model.eval()
    one, two = gated.model.first.weight, gated.model.second.weight
    assert torch.equal(one, two)
    assert torch.equal(one.detach(), gated.codes()["first.weight"].values())


def test_hostile_codes() -> None:
    whole, scale = torch.ones(2, 3, dtype=torch.int8), torch.ones(2)
    assert Codes(whole, scale, 8).values().tolist() == [[1.0] * 3] * 2
    assert Codes(whole, torch.tensor(2.0), 1).values().tolist() == [[2.0] * 3] * 2
    with pytest.raises(ModelError):
        Codes(whole.int(), scale, 8)
    with pytest.raises(ModelError):
        Codes(whole, scale, 3)
    with pytest.raises(ModelError):
        Codes(whole, torch.ones(3), 8)
    with pytest.raises(ModelError):
        Codes(whole, scale.double(), 8)
    with pytest.raises(ModelError):
        Codes(whole, -scale, 8)
    with pytest.raises(ModelError):
        Codes(whole, scale * float("nan"), 8)
    with pytest.raises(ModelError, match="fit into 4 bits"):
        Codes(whole * 8, scale, 4)
    with pytest.raises(ModelError, match="fit into 8 bits"):
        Codes(torch.full((2, 3), -128, dtype=torch.int8), scale, 8)

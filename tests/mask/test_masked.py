"""Masks go on everywhere, and come off without a trace."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import secateur as sec
from secateur.mask.masked import masked_copy


class Tied(nn.Module):
    """A weight in two places, a gain and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(4, 6), nn.Linear(6, 4)
        self.down.weight = nn.Parameter(torch.randn(4, 6))
        self.again = nn.Linear(6, 4)
        self.again.weight = self.down.weight
        self.register_buffer("gain", torch.rand(6) + 1)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.up(x).sigmoid() * self.gain
        return self.head(self.down(h) + self.again(h))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return Tied().double().eval()


@pytest.fixture
def plan(model: nn.Module) -> sec.Plan:
    groups = sec.groups(model, torch.randn(2, 4).double())
    masks = {group.name: torch.arange(group.size) % 3 != 1 for group in groups}
    return sec.Plan(groups, masks)


def _bytes(model: nn.Module) -> dict[str, bytes]:
    return {name: t.numpy().tobytes() for name, t in model.state_dict().items()}


def test_writers_readers_and_buffers_are_zero_inside(model: nn.Module, plan: sec.Plan) -> None:
    gone = ~plan.masks["up"]
    with sec.masked(model, plan):
        assert not model.up.weight[gone].any()
        assert not model.up.bias[gone].any()
        assert not model.down.weight[:, gone].any()
        assert not model.gain[gone].any()
        assert model.again.weight is model.down.weight
        assert model.up.weight[~gone].all()


def test_leaving_restores_bit_for_bit(model: nn.Module, plan: sec.Plan) -> None:
    with torch.no_grad():
        model.up.weight[1, 0] = -0.0
    before = _bytes(model)
    with sec.masked(model, plan):
        assert _bytes(model) != before
    assert _bytes(model) == before


def test_an_exception_inside_restores_too(model: nn.Module, plan: sec.Plan) -> None:
    before = _bytes(model)
    with pytest.raises(KeyboardInterrupt), sec.masked(model, plan):
        raise KeyboardInterrupt
    assert _bytes(model) == before


def test_a_masked_copy_computes_the_same(model: nn.Module, plan: sec.Plan) -> None:
    x, before = torch.randn(5, 4).double(), _bytes(model)
    with torch.no_grad():
        copied = masked_copy(model, plan)(x)
        with sec.masked(model, plan):
            assert torch.equal(copied, model(x))
    assert _bytes(model) == before


def test_a_plan_for_another_network_is_refused(plan: sec.Plan) -> None:
    other = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    with pytest.raises(sec.SecateurError) as caught, sec.masked(other, plan):
        pass
    assert caught.value.where
    assert caught.value.hint

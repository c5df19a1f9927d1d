from __future__ import annotations

import pytest
import torch
from torch import nn

from secateur.types.untouched import mode, untouched
from tests.handmade import net, same_state, state_of


class Restless(nn.Module):
    """Writes to its buffers, in place and anew, in eval mode as well."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("last", torch.tensor([float("nan"), 1.0]))
        self.register_buffer("hidden", torch.ones(2), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.last = x[0].detach()
        self.hidden.mul_(2)
        out: torch.Tensor = self.inner(x)
        return out


def test_buffers_come_back_bit_for_bit() -> None:
    model = Restless()
    calls, last, hidden = model.calls, model.last, model.hidden
    with untouched(model):
        model(torch.ones(1, 2))
    assert model.calls is calls
    assert model.last is last
    assert model.hidden is hidden
    assert int(calls) == 0
    assert last.isnan().tolist() == [True, False]
    assert hidden.tolist() == [1.0, 1.0]


def test_modes_and_frozen_flags_come_back_after_an_error() -> None:
    model = net()
    model.train()
    model.bn.eval()
    model.fc.weight.requires_grad_(False)
    before = state_of(model)
    with pytest.raises(KeyError), untouched(model):
        assert not any(module.training for module in model.modules())
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        raise KeyError
    assert same_state(model, before)


@pytest.mark.parametrize("training", [True, False])
def test_mode_restores_each_module(training: bool) -> None:
    model = net().train()
    model.bn.eval()
    with mode(model, training=training):
        assert all(module.training is training for module in model.modules())
    assert model.training
    assert not model.bn.training


class Told(nn.Linear):
    """Counts how often it is told which mode to take."""

    told = 0

    def train(self, mode: bool = True) -> Told:
        self.told += 1
        super().train(mode)
        return self


def test_a_network_that_is_in_the_mode_is_not_told_again() -> None:
    model = nn.Sequential(Told(2, 2), nn.BatchNorm1d(2)).eval()
    with mode(model, training=False):
        assert model[0].told == 1  # from before
    model[1].train()
    with mode(model, training=False):
        assert model[0].told == 2
        assert not model[1].training
    assert model[1].training

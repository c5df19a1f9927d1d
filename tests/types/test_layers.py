"""Layers that multiply a weight by what they read, and those that only look like it."""

from __future__ import annotations

import types

import pytest
import torch
from torch import Tensor, nn

from secateur.types.layers import KINDS, Layer, alone, computes_otherwise


class Doubled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Renamed(nn.Linear):
    """Computes as its parent does."""


class Shifted(nn.Conv1d):
    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(x, weight + 1, bias)


def replaced() -> nn.Linear:
    """A forward pass that was put on the layer itself."""
    layer = nn.Linear(2, 2)
    layer.forward = types.MethodType(lambda self, x: x, layer)  # type: ignore[method-assign]
    return layer


@pytest.mark.parametrize(
    ("layer", "otherwise"),
    [
        (nn.Linear(2, 2), False),
        (nn.Conv1d(2, 2, 1), False),
        (nn.Conv2d(2, 2, 1), False),
        (nn.Conv3d(2, 2, 1), False),
        (Renamed(2, 2), False),
        (Doubled(2, 2), True),
        (Shifted(2, 2, 1), True),
        (replaced(), True),
    ],
)
def test_a_forward_pass_of_ones_own(layer: Layer, otherwise: bool) -> None:
    assert isinstance(layer, KINDS)
    assert computes_otherwise(layer) is otherwise


def test_a_weight_that_a_second_module_holds() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3), nn.BatchNorm1d(3))
    model[1].weight = model[0].weight
    assert not alone(model, model[0].weight)
    assert alone(model, model[2].weight)
    assert alone(model, model[0].bias)
    assert alone(model, model[3].running_mean)
    model[2].register_buffer("seen", model[2].bias)  # one module, twice
    assert not alone(model, model[2].bias)
    assert not alone(model, torch.zeros(3))

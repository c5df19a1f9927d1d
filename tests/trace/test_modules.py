from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from secateur.mask import shrink
from secateur.trace.groups import coupled_channels
from secateur.types import Plan
from tests.trace.law import assert_exact, plans, randomised


class Sandwich(nn.Module):
    """A writer, a layer of torch's, a reader; the last dim holds the channels where `last`."""

    def __init__(self, layer: nn.Module, inner: int, outer: int, *, last: bool = False) -> None:
        super().__init__()
        self.last, self.layer = last, layer
        self.writer = nn.Linear(3, inner) if last else nn.Conv1d(3, inner, 1)
        self.reader = nn.Linear(outer, 2) if last else nn.Conv1d(outer, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(self.writer(x).tanh())
        return self.reader(y[0] if isinstance(y, tuple) else y)


CASES: dict[str, tuple[Any, int, int, bool]] = {
    # name: (layer, channels in, channels out, channels last)
    "linear": (lambda: nn.Linear(4, 5), 4, 5, True),
    "conv": (lambda: nn.Conv1d(4, 5, 1), 4, 5, False),
    "grouped": (lambda: nn.Conv1d(4, 6, 1, groups=2), 4, 6, False),
    "depthwise": (lambda: nn.Conv1d(4, 8, 1, groups=4), 4, 8, False),
    "transposed": (lambda: nn.ConvTranspose1d(4, 5, 1), 4, 5, False),
    "transposed grouped": (lambda: nn.ConvTranspose1d(4, 6, 1, groups=2), 4, 6, False),
    "batch norm": (lambda: nn.BatchNorm1d(4), 4, 4, False),
    "batch norm without gain": (lambda: nn.BatchNorm1d(4, affine=False), 4, 4, False),
    "instance norm": (lambda: nn.InstanceNorm1d(4, affine=True), 4, 4, False),
    "instance norm without gain": (lambda: nn.InstanceNorm1d(4), 4, 4, False),
    "group norm": (lambda: nn.GroupNorm(2, 6), 6, 6, False),
    "group norm without gain": (lambda: nn.GroupNorm(2, 6, affine=False), 6, 6, False),
    "layer norm": (lambda: nn.LayerNorm(4), 4, 4, True),
    "layer norm without gain": (lambda: nn.LayerNorm(4, elementwise_affine=False), 4, 4, True),
    "rms norm": (lambda: nn.RMSNorm(4), 4, 4, True),
    "prelu": (lambda: nn.PReLU(4), 4, 4, False),
    "lstm": (lambda: nn.LSTM(4, 5, batch_first=True), 4, 5, True),
    "gru of two layers": (lambda: nn.GRU(4, 5, 2, batch_first=True), 4, 5, True),
    "lstm both ways": (lambda: nn.LSTM(4, 5, batch_first=True, bidirectional=True), 4, 10, True),
    # Never as many hidden units as it projects on: torch refuses that.
    "lstm with projection": (lambda: nn.LSTM(4, 8, batch_first=True, proj_size=3), 4, 3, True),
    "rnn": (lambda: nn.RNN(4, 5, batch_first=True), 4, 5, True),
    "weight norm": (lambda: parametrizations.weight_norm(nn.Linear(4, 5)), 4, 5, True),
    "spectral norm": (lambda: parametrizations.spectral_norm(nn.Linear(4, 5)), 4, 5, True),
    "orthogonal": (lambda: parametrizations.orthogonal(nn.Linear(4, 4)), 4, 4, True),
}


def built(name: str) -> tuple[Sandwich, Tensor]:
    make, inner, outer, last = CASES[name]
    model = randomised(Sandwich(make(), inner, outer, last=last))
    shape = (2, 5, 3) if last else (2, 3, 5)
    return model, torch.randn(*shape, dtype=torch.float64)


def sizes(module: nn.Module) -> dict[str, Any]:
    return {
        key: value
        for key, value in vars(module).items()
        if type(value) is int or (type(value) is tuple and value and type(value[0]) is int)
    }


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported")
@pytest.mark.parametrize("name", [name for name in CASES if name != "orthogonal"])
def test_after_cutting_a_layer_is_as_if_built_in_its_new_size(name: str) -> None:
    """Every int attribute is what torch itself gives a layer of these widths."""
    model, x = built(name)
    groups = coupled_channels(model, x)
    for plan in plans(groups, singles=2):
        small = shrink(model, plan)
        assert sizes(small.layer) == sizes(rebuilt(name, small)), str(plan)
        assert small.writer.weight.shape[0] == _out(small.writer)
        assert small.reader.weight.shape[1] == _in(small.reader)


def _out(layer: nn.Module) -> int:
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def _in(layer: nn.Module) -> int:
    return layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels


def rebuilt(name: str, small: Sandwich) -> nn.Module:
    """The layer made anew from what is on both sides of it."""
    inner, outer, layer = _out(small.writer), _in(small.reader), small.layer
    kind = type(layer)
    if isinstance(layer, nn.modules.conv._ConvNd):
        return kind(inner, outer, 1, groups=layer.groups)
    if isinstance(layer, nn.LSTM | nn.GRU | nn.RNN):
        hidden = outer // (2 if layer.bidirectional else 1)
        words = {"batch_first": True, "bidirectional": layer.bidirectional}
        if getattr(layer, "proj_size", 0):
            return nn.LSTM(inner, layer.weight_hh_l0.shape[0] // 4, proj_size=outer, **words)
        return kind(inner, hidden, layer.num_layers, **words)
    if isinstance(layer, nn.GroupNorm):
        return nn.GroupNorm(layer.num_groups, inner)
    if isinstance(layer, nn.Linear):
        return nn.Linear(inner, outer)
    return kind(inner)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported")
@pytest.mark.parametrize("name", CASES)
def test_layers_lose_channels_exactly(name: str) -> None:
    model, x = built(name)
    groups = assert_exact(model, x, declared=True)

    if name != "orthogonal":
        assert groups.units > 0


def test_a_subclass_is_what_it_is() -> None:
    class Own(nn.Conv1d):
        """timm and others derive from torch's layers."""

    model = randomised(
        nn.Sequential(nn.Conv1d(3, 4, 1), nn.Tanh(), Own(4, 5, 1), nn.Tanh(), nn.Conv1d(5, 2, 1))
    )
    x = torch.randn(2, 3, 4, dtype=torch.float64)
    groups = coupled_channels(model, x)
    masks = {g.name: torch.arange(g.size) > 0 for g in groups}
    small = shrink(model, Plan(groups, masks))

    assert (small[2].in_channels, small[2].out_channels) == (3, 4)


def test_a_value_that_only_happens_to_be_a_size_stays() -> None:
    """stride, kernel and padding of 2 beside two channels; a literal beside a width."""
    conv = nn.Conv1d(2, 4, 2, stride=2, padding=2)
    model = randomised(Sandwich(conv, 2, 4))
    x = torch.randn(2, 3, 6, dtype=torch.float64)
    groups = coupled_channels(model, x)
    for plan in plans(groups):
        small = shrink(model, plan).layer

        assert (small.stride, small.kernel_size, small.padding) == ((2,), (2,), (2,))
        assert (small.in_channels, small.out_channels) == (
            small.weight.shape[1],
            small.weight.shape[0],
        )


class Remembers(nn.Module):
    """Widths of its own, alone and in a tuple, a list and a size."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(3, 4), nn.Linear(3, 5), nn.Linear(9, 2)
        self.widths, self.parts, self.first = (4, 5), [4, 5], 4
        self.size, self.other = torch.Size([4, 2]), 4

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.a(x).view(-1, self.first), self.b(x).view(-1, self.widths[1])
        joined = torch.cat([a.view(-1, self.size[0]), b], 1)
        first, second = joined.split(self.parts, 1)
        return self.head(torch.cat([first.tanh(), second], 1)) * self.size.numel()


def test_attributes_of_a_module_of_ones_own_follow() -> None:
    model, x = randomised(Remembers()), torch.randn(2, 3, dtype=torch.float64)
    groups = coupled_channels(model, x)
    masks = {"a": torch.tensor([True, False, True, True]), "b": torch.arange(5) > 1}
    small = shrink(model, Plan(groups, masks))

    assert (small.first, small.parts, small.widths) == (3, [3, 3], (4, 3))  # widths[0] is not used
    assert small.size == torch.Size([3, 2])
    assert isinstance(small.size, torch.Size)
    assert small.other == 4
    assert (model.first, model.parts, model.widths, model.size) == (
        4,
        [4, 5],
        (4, 5),
        torch.Size([4, 2]),
    )

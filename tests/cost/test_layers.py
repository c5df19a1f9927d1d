"""Which layers a network calls, and on what."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from secateur.cost import Layer, Placed, placed


class Every(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.depth = nn.Conv2d(8, 8, 3, padding="same", groups=8, dilation=2)
        self.grouped = nn.Conv2d(8, 8, 1, groups=2)
        self.twice = nn.Linear(8, 8)
        self.unseen = nn.ConvTranspose2d(8, 8, 2)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.unseen(self.grouped(self.depth(self.conv(x))))
        rows = x.flatten(2).transpose(1, 2)
        return self.head(self.twice(self.twice(rows)).mean(1))


def test_every_call_with_its_size() -> None:
    model = Every().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = placed(model, torch.randn(2, 3, 8, 6))
    plain = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}
    linear = Layer((), (), (), (), 1, (2, 20))
    assert found == [
        Placed("conv.weight", Layer((3, 3), (2, 2), (1, 1), (1, 1), 1, (2, 8, 6)), 8, 3),
        Placed("depth.weight", Layer((3, 3), (1, 1), (2, 2), (2, 2), 0, (2, 4, 3)), 8, 1),
        Placed("grouped.weight", Layer((1, 1), groups=2, size=(2, 4, 3), **plain), 8, 4),
        Placed("twice.weight", linear, 8, 8),
        Placed("twice.weight", linear, 8, 8),
        Placed("head.weight", Layer((), (), (), (), 1, (2,)), 5, 8),
    ]
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_layers_that_differ_have_other_keys() -> None:
    one = Layer((3, 3), (1, 1), (1, 1), (1, 1), 1, (1, 8, 8))
    others = [
        Layer((3, 3), (2, 2), (1, 1), (1, 1), 1, (1, 8, 8)),
        Layer((3, 3), (1, 1), (1, 1), (1, 1), 0, (1, 8, 8)),
        Layer((3, 3), (1, 1), (1, 1), (1, 1), 1, (16, 8, 8)),
        Layer((1, 1), (1, 1), (1, 1), (1, 1), 1, (1, 8, 8)),
        Layer((), (), (), (), 1, (1,)),
    ]
    assert len({str(each) for each in (one, *others)}) == 6


def test_a_shared_weight_has_one_name() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    found = placed(nn.Sequential(first, second), torch.randn(1, 4))
    assert [one.weight for one in found] == ["0.weight", "0.weight"]

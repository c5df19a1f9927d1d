"""Small networks to pack, and the bits of what comes back."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

import secateur as sec
from secateur import wire
from secateur.mask.check import named_tensors
from secateur.mask.cut import cut_of


class Net(nn.Module):
    """Convolutions, BatchNorm, a flattening, a weight in two places, an integer buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(),
            nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        )  # fmt: skip
        self.hidden = nn.Linear(8 * 4 * 4, 10)
        self.again = nn.Linear(10, 10, bias=False)
        self.twice = nn.Linear(10, 10, bias=False)
        self.twice.weight = self.again.weight
        self.register_buffer("steps", torch.tensor([3, 70000, -1]))
        self.register_buffer("scratch", torch.rand(4), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.twice(self.again(self.hidden(self.body(x)).relu()).relu())


def net(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    model = Net()
    with torch.no_grad():
        model(torch.randn(20, 1, 8, 8))
    return model.eval()


EXAMPLE = torch.zeros(2, 1, 8, 8)


def pruned(
    model: nn.Module, granularity: object = None, share: float = 0.5, seed: int = 0
) -> tuple[nn.Module, sec.Plan]:
    """The network and a plan that keeps about a share of its units, drawn at random."""
    groups = sec.groups(model, EXAMPLE, granularity or sec.Channels())  # type: ignore[arg-type]
    draw = torch.Generator().manual_seed(seed)
    masks = {}
    for group in groups:
        masks[group.name] = torch.rand(group.size, generator=draw) < share
        masks[group.name][0] = True
    plan = sec.Plan(groups, masks)
    return sec.shrink(model, plan), plan


def bits(tensor: Tensor) -> bytes:
    """Everything about a tensor's values, NaN and -0 included."""
    flat = tensor.detach().contiguous().reshape(-1)
    return bytes(flat.view(torch.uint8).numpy()) if flat.numel() else b""


def same(left: nn.Module, right: nn.Module) -> None:
    """Assert that two networks hold the same, bit for bit."""
    one, other = named_tensors(left), named_tensors(right)
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        found = other[name]
        assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape), name
        assert bits(found) == bits(tensor), name


def packed(
    path: Path, network: nn.Module, /, plan: sec.Plan | None = None, **more: object
) -> wire.Packed:
    """Write a network."""
    cut = wire.Contents({}).cut if plan is None else cut_of(plan)
    return wire.write(path, wire.Contents(named_tensors(network), cut, **more))  # type: ignore[arg-type]


def loaded(path: Path, model: nn.Module, *bases: Path) -> nn.Module:
    """The network that a file holds, made from another."""
    return wire.load(path, lambda header: model, bases).network

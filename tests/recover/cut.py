"""Small networks with something cut out of them, for the tests of label-free recovery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur as sec
from secateur.demo.networks.resnet import ResNet
from tests.handmade import SIDE, Net


class Cut(NamedTuple):
    model: nn.Module
    plan: sec.Plan
    small: nn.Module
    x: Tensor

    @property
    def data(self) -> list[Tensor]:
        """Three batches of unequal sizes."""
        return list(self.x.split([len(self.x) // 2, len(self.x) // 4, len(self.x) // 4]))


def cut(model: nn.Module, x: Tensor, removed: Mapping[str, Sequence[int]] | None = None) -> Cut:
    """Float64, eval mode; by group which units go, every third of each where that is not said."""
    model = model.double().eval()
    x = x.double()
    groups = sec.groups(model, x[:2])
    masks = {group.name: torch.ones(group.size, dtype=torch.bool) for group in groups}
    for group in groups:
        gone = range(1, group.size, 3) if removed is None else removed.get(group.name, ())
        masks[group.name][list(gone)] = False
    plan = sec.Plan(groups, masks)
    return Cut(model, plan, sec.shrink(model, plan).eval(), x)


def lively(model: nn.Module) -> nn.Module:
    """BatchNorms that are not the identity, biases that are not small."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
                module.weight.normal_(1.0, 0.3)
                module.bias.normal_()
    return model


class Sequences(nn.Module):
    """Convolutions along a line, one of them in groups, and Linear layers on every step."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(3, 8, 3, padding=1, padding_mode="circular")
        self.mixed = nn.Conv1d(8, 8, 3, padding=2, dilation=2, groups=2)
        self.step = nn.Linear(8, 6)
        self.head = nn.Linear(6, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.mixed(F.relu(self.first(x))))
        out: Tensor = self.head(torch.tanh(self.step(x.transpose(1, 2)))).mean(1)
        return out


def plain() -> Cut:
    return cut(nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 7), nn.Sigmoid(),
                             nn.Linear(7, 3)), torch.randn(64, 5))  # fmt: skip


def flattened() -> Cut:
    return cut(lively(Net()), torch.randn(240, 3, SIDE, SIDE))


def residual() -> Cut:
    return cut(lively(ResNet(8, width=4, channels=1)), torch.randn(32, 1, 8, 8))


def sequences() -> Cut:
    return cut(Sequences(), torch.randn(32, 3, 10))


def strided() -> Cut:
    return cut(
        nn.Sequential(
            nn.Conv2d(2, 6, 3, padding="same", padding_mode="reflect"),
            nn.ReLU(),
            nn.Conv2d(6, 7, (3, 2), stride=(2, 1), padding=(1, 0), bias=False),
            nn.BatchNorm2d(7),
            nn.ReLU(),
            nn.Conv2d(7, 4, 1, bias=False),
        ),
        torch.randn(24, 2, 7, 6),
    )


def solid() -> Cut:
    return cut(
        nn.Sequential(nn.Conv3d(1, 4, 2, padding=1), nn.ReLU(), nn.Conv3d(4, 3, 2)),
        torch.randn(16, 1, 3, 4, 3),
    )


CASES = {
    f.__name__: f for f in (plain, flattened, residual, sequences, strided, solid)
}  # by name, so that a failing case can be told


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def everything(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def differing(model: nn.Module, before: Mapping[str, Tensor]) -> set[str]:
    """Names of the tensors that are not what they were."""
    return {name for name, t in model.state_dict().items() if not torch.equal(t, before[name])}


def seen(model: nn.Module, layer: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """What a layer is given and what it returns."""
    found: list[tuple[Tensor, Tensor]] = []
    handle = model.get_submodule(layer).register_forward_hook(
        lambda _m, args, out: found.append((args[0].detach().clone(), out.detach().clone()))
    )
    with torch.no_grad():
        model(x)
    handle.remove()
    return found[0]

"""How networks are put together: inputs, outputs, containers, attributes, control flow."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.zoo.net import Shelf, image, normal, pool_head

shelf = Shelf()
WIDE = ("up.weight:0", "mid.weight:0")


class _Mlp(nn.Module):
    """9 → 14 → 12 → 5."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.mid, self.down = nn.Linear(9, 14), nn.Linear(14, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.mid(self.up(x).relu()).relu())


@shelf.add(normal(1, 9), units=26, prunes=WIDE)
class BatchOfOne(_Mlp):
    """The batch is not to be mistaken for a dim without channels."""


@shelf.add(normal(9), units=26, prunes=WIDE)
class NoBatch(_Mlp):
    """A single vector without a batch dim."""


@shelf.add(normal(14, 9), units=26, prunes=WIDE)
class BatchLikeWidth(_Mlp):
    """As many samples as channels: sizes alone tell nothing."""


@shelf.add(lambda: {"x": torch.randn(2, 9), "gate": torch.randn(2, 6)}, units=26, prunes=WIDE)
class DictInput(_Mlp):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(6, 14)

    def forward(self, gate: Tensor, x: Tensor, *, flag: bool = True) -> Tensor:
        gate = self.gate(gate).sigmoid() if flag else gate
        return self.down(self.mid(self.up(x).relu() * gate).relu())


@shelf.add(lambda: ({"a": torch.randn(2, 9), "b": [torch.randn(2, 9)]},), units=26, prunes=WIDE)
class NestedInput(_Mlp):
    """One argument: a dict that holds a list."""

    def forward(self, batch: dict[str, Tensor | list[Tensor]]) -> Tensor:
        return super().forward(batch["a"] + batch["b"][0])


@shelf.add(normal(2, 9), units=26, prunes=WIDE)
class TupleOutput(_Mlp):
    def __init__(self) -> None:
        super().__init__()
        self.aside = nn.Linear(14, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, None]:
        x = self.up(x).relu()
        return self.down(self.mid(x).relu()), self.aside(x), None


@shelf.add(normal(2, 9), units=14, prunes=("up.weight:0",), refuses={"mid.weight": "*output*"})
class FeaturesInOutput(_Mlp):
    """A dict of outputs, one of them the features themselves: these may not change."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.mid(self.up(x).relu()).relu()
        return {"logits": self.down(features), "features": features}


@dataclass
class _Result:
    logits: Tensor
    norm: Tensor | None = None


@shelf.add(normal(2, 9), units=14, prunes=("up.weight:0",))
class DataclassOutput(_Mlp):
    def forward(self, x: Tensor) -> _Result:
        x = self.mid(self.up(x).relu())
        return _Result(self.down(x.relu()), x.norm(dim=1))


@shelf.add(image(), units=32, prunes=("blocks.a.0.0.weight:0", "blocks.b.1.weight:0"))
class NestedContainers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleDict(
            {
                "a": nn.ModuleList([nn.Sequential(nn.Conv2d(3, 10, 3), nn.BatchNorm2d(10))]),
                "b": nn.Sequential(nn.Sequential(nn.ReLU()), nn.Conv2d(10, 14, 1), nn.Identity()),
            }
        )
        self.tail = nn.Sequential(nn.Sequential(nn.Conv2d(14, 8, 1), nn.Dropout(0.5)), pool_head(8))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks["a"]:
            x = block(x)
        return self.tail(self.blocks["b"](x).relu())


@shelf.add(image(), units=18, prunes=("stem.weight:0", "conv.weight:0"))
class InPlaceActivations(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 10, 1), pool_head(10)
        self.norm, self.act = nn.BatchNorm2d(10), nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.stem(x), inplace=True)
        x = self.act(self.norm(self.conv(x))).mul_(0.5)
        x += 0.1
        return self.head(x.add_(x).clamp_(max=2))


@shelf.add(image(), units=20, prunes=("tower.0.weight:0", "tower.2.weight:0"))
class SharedSubmodule(nn.Module):
    """One tower reached by two names and run on two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ReLU())
        self.again, self.head = self.tower, pool_head(12)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.tower(x) - self.again(x.flip(-1)))


@shelf.add(normal(2, 9), units=26, prunes=WIDE)
class BufferAsScale(_Mlp):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.rand(14) + 0.5)
        self.register_buffer("hidden", torch.rand(12), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down((self.mid(self.up(x).relu() * self.scale) + self.hidden).relu())


@shelf.add(normal(2, 9), units=12)
class TensorAttribute(_Mlp):
    """Constants of the width of the channels that are no buffer: they cannot be cut by name."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.linspace(0.5, 1.5, 14, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.mid(self.up(x).relu() * self.scale.to(x.dtype)).relu())


@shelf.add(normal(2, 9), units=12, refuses={"up.weight": "*"})
class FreshConstants(_Mlp):
    """Constants made in the forward pass from a number in the code."""

    def forward(self, x: Tensor) -> Tensor:
        ramp = torch.arange(14, dtype=x.dtype) / 14
        return self.down(self.mid(self.up(x) * ramp).relu())


@shelf.add(normal(2, 9), units=12)
class RampFromWidth(_Mlp):
    """The same made from the width: it runs after pruning, with other values."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x)
        ramp = torch.linspace(0, 1, x.shape[-1], dtype=x.dtype)
        return self.down(self.mid(x * ramp).relu())


@shelf.add(normal(2, 9), units=12)
class DividedByWidth(_Mlp):
    """A size used as a value: it changes with the channels."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x).relu()
        return self.down(self.mid(x / x.shape[-1] ** 0.5).relu())


@shelf.add(normal(2, 9), units=12)
class BranchOnWidth(_Mlp):
    """A size used as a condition."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x)
        x = x.relu() if x.shape[-1] >= 14 else x.sigmoid()
        return self.down(self.mid(x).relu())


@shelf.add(normal(2, 9), units=12)
class LoopOverWidth(_Mlp):
    """As many rounds as there are channels."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x)
        for _ in range(x.shape[-1] // 4):
            x = x.tanh() * 1.5
        return self.down(self.mid(x).relu())


@shelf.add(normal(2, 9), units=14, prunes=("up.weight:0",))
class WidthAttribute(_Mlp):
    """A width kept as an int and used in a view of heads of 4."""

    def __init__(self) -> None:
        super().__init__()
        self.width, self.parts = 12, 3

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid(self.up(x).relu()).view(-1, self.parts, self.width // self.parts)
        return self.down(x.relu().reshape(-1, self.width))


@shelf.add(normal(2, 9), units=14, prunes=("up.weight:0",))
class ConfigObject(_Mlp):
    """The same with the sizes in a configuration that is no module."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(width=12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid(self.up(x).relu()).view(-1, self.config.width)
        return self.down(x.relu())


@shelf.add(normal(2, 9), units=12, prunes=("mid.weight:0",))
class Checks(_Mlp):
    """The code compares its input with its own attributes before it works."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.up.in_features or x.dim() != 2:
            raise ValueError(f"needs {self.up.in_features} features, found {x.shape}")
        x = self.up(x)
        if x.shape[-1] != self.mid.in_features:
            raise ValueError("widths differ")
        return self.down(self.mid(x.relu()).relu())


@shelf.add(normal(2, 9), units=26, prunes=WIDE)
class Checkpointed(_Mlp):
    def forward(self, x: Tensor) -> Tensor:
        x = checkpoint(self.up, x, use_reentrant=False).relu()
        return self.down(self.mid(x).relu())


class _Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:
        return grad


@shelf.add(normal(2, 9), units=26, prunes=WIDE)
class CustomFunction(_Mlp):
    def forward(self, x: Tensor) -> Tensor:
        return self.down(_Swish.apply(self.mid(_Swish.apply(self.up(x)))))


@shelf.add(image(), units=8)
class FourierOverSpace(nn.Module):
    """A learned complex filter per channel in the frequencies of the maps."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, 10, 1), nn.Conv2d(10, 8, 1)
        self.filter, self.head = nn.Parameter(torch.randn(10, 8, 5, 2)), pool_head(8)

    def forward(self, x: Tensor) -> Tensor:
        waves = torch.fft.rfft2(self.stem(x), norm="ortho")
        x = torch.fft.irfft2(waves * torch.view_as_complex(self.filter), s=(8, 8), norm="ortho")
        return self.head(self.last(x).relu())


@shelf.add(normal(2, 9), units=12)
class FourierOverChannels(_Mlp):
    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.mid(torch.fft.fft(self.up(x)).real).relu())


@shelf.add(normal(2, 9), units=12)
class ComplexFeatures(_Mlp):
    """Magnitude and angle of two real branches."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(9, 14)

    def forward(self, x: Tensor) -> Tensor:
        waves = torch.complex(self.up(x), self.other(x))
        return self.down(self.mid((waves * waves.conj()).real + waves.imag).relu())


@shelf.add(lambda: (torch.randn(2, 6, 9), torch.tensor([6, 4])), units=26, prunes=WIDE)
class LengthMask(_Mlp):
    """Tokens past the length are filled and left out of the mean."""

    def forward(self, x: Tensor, length: Tensor) -> Tensor:
        inside = torch.arange(x.shape[1])[None] < length[:, None]
        x = torch.where(inside[..., None], self.up(x), 0.0)
        x = self.mid(x).masked_fill(~inside[..., None], 0.0).relu()
        return self.down(x.sum(1) / length[:, None])


@shelf.add(normal(2, 9), units=26, prunes=WIDE)
class Hooked(_Mlp):
    """A forward hook that changes the output of a layer, and a pre-hook."""

    def __init__(self) -> None:
        super().__init__()
        self.up.register_forward_hook(lambda module, args, out: out * 0.7)
        self.mid.register_forward_pre_hook(lambda module, args: (args[0].tanh(),))


@shelf.add(normal(2, 9), units=26, prunes=WIDE)
class FunctionAttributes(_Mlp):
    """Activations as partial functions and bound methods."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = partial(F.leaky_relu, negative_slope=0.2), F.softplus

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.second(self.mid(self.first(self.up(x)))))


@shelf.add(normal(2, 9), units=26, prunes=WIDE)
class SequentialByIndex(nn.Module):
    """Layers of a Sequential reached by number and by slice."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.mid, self.down = nn.Linear(9, 14), nn.Linear(14, 12), nn.Linear(12, 5)
        self.all = nn.Sequential(self.up, nn.ReLU(), self.mid, nn.GELU(), self.down)

    def forward(self, x: Tensor) -> Tensor:
        x = self.all[0](x)
        return self.all[-1](self.all[1:4](x))


@shelf.add(normal(2, 9), units=14)
class EarlyWidthOne(_Mlp):
    """A bottleneck of one unit can lose nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.mid, self.down = nn.Linear(14, 1), nn.Linear(1, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.mid(self.up(x).relu()).tanh())


NETS = tuple(shelf.nets)

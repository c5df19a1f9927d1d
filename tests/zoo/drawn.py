"""Networks drawn at random: a chain of blocks, each of which may do anything to the channels.

A drawn network is a list of steps that are interpreted in `forward`, so that the code of a step reads like
the code people write. Sizes come from tensors, from attributes, or stand there as literals.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.randomise import randomise

Step = Callable[["Drawn", Tensor], Tensor]


class Drawn(nn.Module):
    """A stem, drawn steps on (b, c, h, w), and a head."""

    def __init__(self, seed: int, length: int) -> None:
        super().__init__()
        draw = random.Random(seed)
        self.layers = nn.ModuleDict()
        self.sizes: list[int] = []
        self.names: list[str] = []
        self.draw = draw
        self.channels = draw.choice([8, 12, 16, 24])
        self.stem = nn.Conv2d(3, self.channels, 3, padding=1)
        self.steps: list[Step] = []
        for _ in range(length):
            make = draw.choice(MAKERS)
            step = make(self)
            if step is not None:
                self.steps.append(step)
                self.names.append(make.__name__)
        self.head = nn.Linear(self.channels, 5)
        del self.draw

    def add(self, layer: nn.Module) -> str:
        """Register a layer; returns its name."""
        name = str(len(self.layers))
        self.layers[name] = layer
        return name

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for step in self.steps:
            x = step(self, x)
        return self.head(x.mean((2, 3)))

    def __str__(self) -> str:
        return " > ".join(self.names)


Maker = Callable[[Drawn], Step | None]
MAKERS: list[Maker] = []


def maker(function: Maker) -> Maker:
    MAKERS.append(function)
    return function


def _divisor(draw: random.Random, number: int) -> int:
    return draw.choice([d for d in range(1, number + 1) if number % d == 0])


@maker
def conv(net: Drawn) -> Step:
    out = net.draw.choice([8, 12, 16, 24])
    name = net.add(nn.Conv2d(net.channels, out, net.draw.choice([1, 3]), padding="same"))
    net.channels = out
    return lambda n, x: n.layers[name](x).relu()


@maker
def grouped(net: Drawn) -> Step:
    groups = _divisor(net.draw, net.channels)
    out = groups * net.draw.choice([1, 2, 3])
    name = net.add(nn.Conv2d(net.channels, out, 3, padding=1, groups=groups))
    net.channels = out
    return lambda n, x: n.layers[name](x).tanh()


@maker
def transposed(net: Drawn) -> Step:
    groups = _divisor(net.draw, net.channels)
    out = groups * net.draw.choice([1, 2, 4])
    name = net.add(nn.ConvTranspose2d(net.channels, out, 3, padding=1, groups=groups))
    net.channels = out
    return lambda n, x: n.layers[name](x).relu()


@maker
def norm(net: Drawn) -> Step:
    groups = _divisor(net.draw, net.channels)
    kinds: list[nn.Module] = [
        nn.BatchNorm2d(net.channels),
        nn.BatchNorm2d(net.channels, affine=False),
        nn.GroupNorm(groups, net.channels),
        nn.InstanceNorm2d(net.channels, affine=True),
    ]
    name = net.add(net.draw.choice(kinds))
    return lambda n, x: n.layers[name](x)


@maker
def layer_norm(net: Drawn) -> Step:
    name = net.add(nn.LayerNorm(net.channels))
    return lambda n, x: n.layers[name](x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@maker
def activation(net: Drawn) -> Step:
    function = net.draw.choice(
        [torch.sigmoid, F.gelu, F.hardswish, torch.cos, F.elu, torch.abs, F.silu]
    )
    return lambda _, x: function(x)


@maker
def residual(net: Drawn) -> Step:
    name = net.add(nn.Conv2d(net.channels, net.channels, 3, padding=1))
    return lambda n, x: x + n.layers[name](x.relu())


@maker
def bottleneck(net: Drawn) -> Step:
    width = net.draw.choice([4, 6, 10])
    a, b = net.add(nn.Conv2d(net.channels, width, 1)), net.add(nn.Conv2d(width, net.channels, 1))
    return lambda n, x: x + n.layers[b](n.layers[a](x).relu())


@maker
def dense(net: Drawn) -> Step:
    name = net.add(nn.Conv2d(net.channels, 6, 1))
    net.channels += 6
    return lambda n, x: torch.cat([x, n.layers[name](x)], 1)


@maker
def doubled(net: Drawn) -> Step | None:
    if net.channels > 32:
        return None
    net.channels *= 2
    return lambda _, x: torch.cat([x, x], 1)


@maker
def gate(net: Drawn) -> Step | None:
    if net.channels % 2:
        return None
    net.channels //= 2

    def step(_: Drawn, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        return a * b.sigmoid()

    return step


@maker
def split_by_size(net: Drawn) -> Step | None:
    if net.channels < 4:
        return None
    first = net.draw.randrange(1, net.channels - 1)
    how = net.draw.choice(["literal", "from shape", "slice"])
    if how == "from shape":
        first = net.channels // 2
    name = net.add(nn.Conv2d(net.channels - first, 7, 1))
    net.channels = first + 7

    def step(n: Drawn, x: Tensor) -> Tensor:
        if how == "literal":
            a, b = torch.split(x, [first, x.shape[1] - first], 1)
        elif how == "slice":
            a, b = x[:, :first], x[:, first:]
        else:
            half = x.shape[1] // 2
            a, b = x[:, :half], x[:, half:]
        return torch.cat([n.layers[name](b), a.relu()], 1)

    return step


@maker
def shuffle(net: Drawn) -> Step:
    groups = _divisor(net.draw, net.channels)

    def step(_: Drawn, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        return x.view(b, groups, c // groups, h, w).transpose(1, 2).reshape(b, c, h, w)

    return step


@maker
def pixel_shuffle(net: Drawn) -> Step | None:
    if net.channels % 4:
        return None
    net.channels //= 4
    return lambda _, x: F.avg_pool2d(F.pixel_shuffle(x, 2), 2)


@maker
def squeeze_excite(net: Drawn) -> Step:
    a, b = net.add(nn.Linear(net.channels, 5)), net.add(nn.Linear(5, net.channels))

    def step(n: Drawn, x: Tensor) -> Tensor:
        s = n.layers[b](n.layers[a](x.mean((2, 3))).relu()).sigmoid()
        return x * s[:, :, None, None]

    return step


@maker
def attention(net: Drawn) -> Step | None:
    heads = _divisor(net.draw, net.channels)
    net.sizes.append(heads)
    at = len(net.sizes) - 1
    qkv, proj = (
        net.add(nn.Linear(net.channels, 3 * net.channels)),
        net.add(nn.Linear(net.channels, net.channels)),
    )
    fused = net.draw.random() < 0.5

    def step(n: Drawn, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        t = x.flatten(2).transpose(1, 2)
        q, k, v = n.layers[qkv](t).reshape(b, h * w, 3, n.sizes[at], -1).permute(2, 0, 3, 1, 4)
        if fused:
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            y = (q @ k.transpose(-2, -1) * 0.3).softmax(-1) @ v
        y = n.layers[proj](y.transpose(1, 2).flatten(2))
        return (t + y).transpose(1, 2).reshape(b, c, h, w)

    return step


@maker
def channel_statistics(net: Drawn) -> Step:
    how = net.draw.choice(["mean", "max", "softmax", "norm", "sum", "cumsum"])

    def step(_: Drawn, x: Tensor) -> Tensor:
        if how == "mean":
            return x - x.mean(1, keepdim=True)
        if how == "max":
            return x / (1 + x.amax(1, keepdim=True) ** 2)
        if how == "softmax":
            return x.softmax(1)
        if how == "norm":
            return F.normalize(x, dim=1)
        if how == "sum":
            return x * x.sum(1, keepdim=True).tanh()
        return x.cumsum(1)

    return step


@maker
def reordered(net: Drawn) -> Step:
    how = net.draw.choice(["flip", "roll", "repeat", "index"])
    order = list(range(net.channels))
    net.draw.shuffle(order)

    def step(_: Drawn, x: Tensor) -> Tensor:
        if how == "flip":
            return x + x.flip(1)
        if how == "roll":
            return x + x.roll(1, 1)
        if how == "repeat":
            return x + x[:, :1].repeat(1, x.shape[1], 1, 1)
        return x[:, order]

    return step


@maker
def padded(net: Drawn) -> Step:
    net.channels += 3
    return lambda _, x: F.pad(x, (0, 0, 0, 0, 1, 2))


@maker
def loose(net: Drawn) -> Step:
    name = net.add(nn.ParameterList([nn.Parameter(torch.randn(net.channels, 1, 1))]))
    how = net.draw.choice(["add", "mul", "divide"])

    def step(n: Drawn, x: Tensor) -> Tensor:
        p = n.layers[name][0]
        if how == "add":
            return x + p
        return x * p if how == "mul" else x / (1 + p * p)

    return step


@maker
def outer(net: Drawn) -> Step:
    a, b = net.add(nn.Conv2d(net.channels, 3, 1)), net.add(nn.Conv2d(net.channels, 4, 1))
    net.channels = 12

    def step(n: Drawn, x: Tensor) -> Tensor:
        return torch.einsum("bihw,bjhw->bijhw", n.layers[a](x), n.layers[b](x)).flatten(1, 2)

    return step


@maker
def written(net: Drawn) -> Step:
    name = net.add(nn.Conv2d(net.channels, net.channels, 1))

    def step(n: Drawn, x: Tensor) -> Tensor:
        y = torch.zeros_like(x)
        y += n.layers[name](x)
        y[:, 1:] += x[:, :-1]
        return y

    return step


@maker
def spatial_linear(net: Drawn) -> Step:
    name = net.add(nn.Linear(net.channels * 4, net.channels))

    def step(n: Drawn, x: Tensor) -> Tensor:
        s = n.layers[name](F.adaptive_avg_pool2d(x, 2).flatten(1))
        return x + s.unflatten(1, (-1, 1, 1))

    return step


@maker
def maxout(net: Drawn) -> Step | None:
    if net.channels % 2:
        return None
    net.channels //= 2

    def step(_: Drawn, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        return x.view(b, c // 2, 2, h, w).amax(2)

    return step


@dataclass(frozen=True, slots=True)
class Case:
    """A drawn network with its example."""

    model: Drawn
    example: Tensor


def drawn(seed: int, length: int = 5) -> Case:
    """The network of a seed, in float64 and eval mode, with randomised norms."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Drawn(seed, length)
        randomise(model, seed)
        return Case(model.double().eval(), torch.randn(2, 3, 4, 4, dtype=torch.float64))

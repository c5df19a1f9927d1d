"""The networks on which a leading peer was probed, and failed, aloud or silently, on half.

Widths differ from each other, so that a wrong coupling shows as a wrong shape.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.net import Shelf, image, normal, pool_head, tokens

shelf = Shelf()


@shelf.add(
    image(), units=40, prunes=("conv1.weight:0", "conv2.weight:0", "fc1.weight:0", "fc1.weight:1")
)
class FlattenToFC(nn.Module):
    """Each channel becomes 16 columns of the next layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 8, 3, padding=1)
        self.fc1, self.fc2 = nn.Linear(8 * 16, 20), nn.Linear(20, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.conv2(F.relu(self.conv1(x))).relu(), 2)
        return self.fc2(F.relu(self.fc1(torch.flatten(x, 1))))


@shelf.add(image(), units=36, prunes=("left.weight:0", "right.weight:0", "conv.weight:1"))
class Concat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 12, 1)
        self.conv, self.head = nn.Conv2d(20, 16, 3), pool_head(16)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.left(x).relu(), torch.tanh(self.right(x))], 1)
        return self.head(self.conv(x).relu())


@shelf.add(image(), units=24, prunes=("stem.weight:0", "conv.weight:1"))
class ConcatWithItself(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 10, 3), nn.Conv2d(20, 14, 1)
        self.head = pool_head(14)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        return self.head(self.conv(torch.cat([x, x], 1)).relu())


@shelf.add(image(), units=18, prunes=("stem.weight:0", "conv.weight:0"))
class ChunkAndGate(nn.Module):
    """Channel i and channel i + 8 leave together."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 16, 3), nn.Conv2d(8, 10, 1)
        self.head = pool_head(10)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.stem(x).chunk(2, dim=1)
        return self.head(self.conv(value * torch.sigmoid(gate)).relu())


@shelf.add(image(), units=26, prunes=("stem.weight:0", "depthwise.weight:0", "point.weight:0"))
class Depthwise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depthwise = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 12, 3, groups=12)
        self.norm, self.point = nn.BatchNorm2d(12), nn.Conv2d(12, 14, 1)
        self.head = pool_head(14)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.norm(self.depthwise(self.stem(x).relu())))
        return self.head(self.point(x).relu())


@shelf.add(image(), units=14, prunes=("stem.weight:0", "grouped.weight:0", "point.weight:0"))
class GroupedConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.grouped = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 24, 3, groups=4)
        self.point, self.head = nn.Conv2d(24, 10, 1), pool_head(10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.point(self.grouped(self.stem(x).relu()).relu()).relu())


@shelf.add(image(), units=12, prunes=("stem.weight:0", "shared.weight:0", "shared.weight:1"))
class LayerUsedTwice(nn.Module):
    """In and out of the shared layer are one row of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.shared = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 12, 3, padding=1)
        self.head = pool_head(12)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.shared(self.shared(self.stem(x).relu()).relu()).relu())


@shelf.add(image(), units=10, prunes=("stem.weight:0", "scale:1"))
class LooseMap(nn.Module):
    """A parameter (1, C, 1, 1) outside any layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 10, 3), pool_head(10)
        self.scale = nn.Parameter(torch.randn(1, 10, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.stem(x) * self.scale).relu())


@shelf.add(normal(2, 9), units=22, prunes=("up.weight:0", "shift:0", "mid.weight:0"))
class LooseVector(nn.Module):
    """A parameter (C) that is added: the channel is not zero after masking its writer only."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.mid, self.down = nn.Linear(9, 14), nn.Linear(14, 8), nn.Linear(8, 5)
        self.shift = nn.Parameter(torch.randn(14))

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.mid((self.up(x) + self.shift).relu()).relu())


@shelf.add(image(), units=21, prunes=("stem.weight:0", "squeeze.weight:0", "expand.weight:0"))
class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 16, 3), pool_head(16)
        self.squeeze, self.expand = nn.Conv2d(16, 5, 1), nn.Conv2d(5, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        gate = self.squeeze(x.mean((2, 3), keepdim=True)).relu()
        return self.head(x * self.expand(gate).sigmoid())


@shelf.add(image(), units=22, prunes=("stem.weight:0", "norm.bias:0", "conv.weight:1"))
class BatchNormShift(nn.Module):
    """A masked channel still emits its shift, unless shift or reader are masked too."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 12, 3, bias=False), nn.BatchNorm2d(12)
        self.conv, self.head = nn.Conv2d(12, 10, 3), pool_head(10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(F.silu(self.norm(self.stem(x)))).relu())


@shelf.add(image(), units=9, prunes=("stem.weight:0",))
class UnusedLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.spare, self.head = nn.Conv2d(3, 9, 3), nn.Conv2d(9, 9, 1), pool_head(9)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(x).relu())


@shelf.add(lambda: torch.randn(2, 3, 8, 8).abs(), prunes=("stem.weight:0",))
class DataDependentBranch(nn.Module):
    """Only one side is ever seen; examples of the zoo all take the same one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bright = nn.Conv2d(3, 9, 3), nn.Conv2d(9, 12, 1)
        self.dark, self.head = nn.Conv2d(9, 12, 1), pool_head(12)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x).relu()
        y = self.bright(y) if bool(x.mean() > 0) else self.dark(y)
        return self.head(y.relu())


@shelf.add(normal(2, 7, 16), units=20, prunes=("mlp.0.weight:0",))
class PackedQkv(nn.Module):
    """One Linear for q, k and v under a LayerNorm; the head size is computed from the width."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.norm = 4, nn.LayerNorm(16)
        self.qkv, self.proj = nn.Linear(16, 48), nn.Linear(16, 16)
        self.mlp = nn.Sequential(nn.Linear(16, 20), nn.GELU(), nn.Linear(20, 16))
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, n, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.transpose(-2, -1) * (c // self.heads) ** -0.5).softmax(-1)
        x = x + self.proj((weights @ v).transpose(1, 2).reshape(b, n, c))
        return self.head((x + self.mlp(x)).mean(1))


@shelf.add(image(), units=12, prunes=("conv1.weight:0",), refuses={"conv2.weight": "*view*"})
class ViewWithLiteral(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 8, 3)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2(self.conv1(x).relu()).relu()
        return self.fc(x.mean((2, 3)).view(-1, 8))


@shelf.add(image(), units=11, prunes=("stem.weight:0",), refuses={"conv.weight": "*split*"})
class SplitWithLiteral(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 11, 3), nn.Conv2d(11, 16, 1)
        self.left, self.right = nn.Conv2d(8, 6, 1), nn.Conv2d(8, 6, 1)
        self.head = pool_head(6)

    def forward(self, x: Tensor) -> Tensor:
        left, right = torch.split(self.conv(self.stem(x).relu()).relu(), 8, dim=1)
        return self.head(self.left(left).relu() + self.right(right).tanh())


@shelf.add(
    image(), units=11, prunes=("stem.weight:0",), refuses={"conv.weight": "*slice*|*getitem*"}
)
class SliceWithLiteral(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 11, 3), nn.Conv2d(11, 13, 1)
        self.left, self.right = nn.Conv2d(8, 6, 1), nn.Conv2d(5, 6, 1)
        self.head = pool_head(6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.stem(x).relu()).relu()
        return self.head(self.left(x[:, :8]).relu() + self.right(x[:, 8:]).tanh())


@shelf.add(image(), units=24, prunes=("stem.weight:0", "depthwise.weight:0", "point.weight:1"))
class DepthwiseMultiplier(nn.Module):
    """One input channel feeds two neighbouring output channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depthwise = nn.Conv2d(3, 10, 1), nn.Conv2d(10, 20, 3, groups=10)
        self.point, self.head = nn.Conv2d(20, 14, 1), pool_head(14)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.point(self.depthwise(self.stem(x).relu()).relu()).relu())


@shelf.add(image(), units=23, prunes=("kernel:0", "kernel:1", "stem.weight:0"))
class FunctionalConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 9, 3), pool_head(14)
        self.kernel, self.shift = (
            nn.Parameter(torch.randn(14, 9, 3, 3)),
            nn.Parameter(torch.ones(14)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.conv2d(self.stem(x).relu(), self.kernel, self.shift, padding=1).relu())


@shelf.add(image(), units=14, prunes=("stem.weight:0", "conv.weight:0"))
class PixelShuffle(nn.Module):
    """Four neighbouring channels make one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.shuffle = nn.Conv2d(3, 16, 3), nn.PixelShuffle(2)
        self.conv, self.head = nn.Conv2d(4, 10, 3), pool_head(10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(self.shuffle(self.stem(x)).relu()).relu())


@shelf.add(
    tokens(), units=24, prunes=("embed.weight:1", "lstm.weight_hh_l0:0", "lstm.weight_hh_l0:1")
)
class Lstm(nn.Module):
    """A hidden unit owns a row in each of four gates."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.lstm = nn.Embedding(30, 10), nn.LSTM(10, 14, batch_first=True)
        self.head = nn.Linear(14, 5)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.lstm(self.embed(ids))[0][:, -1])


@shelf.add(image(), units=22, prunes=("stem.weight:0", "mix:0", "mix:1"))
class EinsumLooseWeight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 9, 3), pool_head(13)
        self.mix = nn.Parameter(torch.randn(9, 13))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.einsum("bchw,cd->bdhw", self.stem(x).relu(), self.mix).relu())


@shelf.add(image(), units=13, prunes=("stem.weight:0", "conv.weight:0"))
class ChannelShuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.groups, self.stem = 3, nn.Conv2d(3, 12, 3)
        self.conv, self.head = nn.Conv2d(12, 10, 3), pool_head(10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        b, c, h, w = x.shape
        x = x.view(b, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(b, c, h, w)
        return self.head(self.conv(x).relu())


@shelf.add(normal(2, 9), units=12, prunes=("stem.weight:0", "first.weight:0", "first.weight:1"))
class TiedLinears(nn.Module):
    """Two layers, one weight; rows and columns are the same channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.second = nn.Linear(9, 12), nn.Linear(12, 12), nn.Linear(12, 12)
        self.second.weight, self.head = self.first.weight, nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(self.stem(x).relu()).relu()).relu())


@shelf.add(tokens(), units=32, prunes=("embed.weight:1", "up.weight:0", "down.weight:0"))
class TiedLanguageHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.up, self.down = nn.Embedding(30, 12), nn.Linear(12, 20), nn.Linear(20, 12)
        self.head = nn.Linear(12, 30, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        return self.head(x + self.down(self.up(x).relu()))


@shelf.add(
    normal(2, 9),
    units=28,
    prunes=("up.weight:0", "norm.weight:0", "mid.weight:0"),
    declares={"norm.weight:0": "*layer_norm*"},
)
class LayerNormed(nn.Module):
    """The statistics run over the channels: equality cannot hold and must be declared."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.norm = nn.Linear(9, 16), nn.LayerNorm(16)
        self.mid, self.down = nn.Linear(16, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.mid(F.gelu(self.norm(self.up(x)))).relu())


@shelf.add(image(), units=14, prunes=("stem.weight:0", "conv.weight:0"))
class GroupNormed(nn.Module):
    """Whole groups of 4 are exact, part of a group must be declared."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 3), nn.GroupNorm(4, 16)
        self.conv, self.head = nn.Conv2d(16, 10, 3), pool_head(10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(self.norm(self.stem(x)).relu()).relu())


@shelf.add(
    normal(2, 7, 9),
    units=38,
    prunes=("mlp.0.weight:0", "attention.in_proj_weight:0", "attention.in_proj_weight:1"),
)
class MultiheadAttention(nn.Module):
    """torch's own module checks its width against its heads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.attention = nn.Linear(9, 16), nn.MultiheadAttention(16, 4, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(16, 18), nn.GELU(), nn.Linear(18, 16))
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head((x + self.mlp(x)).mean(1))


NETS = tuple(shelf.nets)

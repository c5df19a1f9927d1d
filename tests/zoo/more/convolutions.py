"""Convolutional blocks of the literature, each as small as it can be."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.net import Shelf, image, normal, pool_head

shelf = Shelf()


@shelf.add(image(3, 6), units=20, prunes=("stem.weight:0", "up.weight:1", "conv.weight:1"))
class TransposedConv(nn.Module):
    """Its weight is (in, out, h, w)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.up = nn.Conv2d(3, 8, 3), nn.ConvTranspose2d(8, 12, 4, stride=2, padding=1)
        self.norm, self.conv = nn.BatchNorm2d(12), nn.Conv2d(12, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.norm(self.up(self.stem(x).relu())).relu()).tanh()


@shelf.add(image(3, 6), units=4, prunes=("up.weight:1", "conv.weight:1"))
class GroupedTransposedConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3)
        self.up = nn.ConvTranspose2d(12, 20, 2, stride=2, groups=4)
        self.conv = nn.Conv2d(20, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.up(self.stem(x).relu()).relu()).sigmoid()


@shelf.add(image(3, 6), units=10, prunes=("stem.weight:0", "up.weight:0"))
class DepthwiseTransposedConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 10, 3)
        self.up = nn.ConvTranspose2d(10, 10, 2, stride=2, groups=10)
        self.conv = nn.Conv2d(10, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.up(self.stem(x).relu()).relu())


@shelf.add(image(), units=4, prunes=("grouped.weight:0", "depthwise.weight:0"))
class GroupedThenDepthwise(nn.Module):
    """Two rows of groups of different length over the same channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.grouped = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 16, 3, groups=4)
        self.depthwise, self.head = nn.Conv2d(16, 16, 3, groups=16), pool_head(16)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.depthwise(self.grouped(self.stem(x).relu()).relu()).relu())


@shelf.add(image(), units=2)
class TwoGroupedConvs(nn.Module):
    """4 groups feed 6 groups: only what fits both rectangles can leave."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.middle = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 24, 3, groups=4)
        self.last, self.head = nn.Conv2d(24, 18, 1, groups=6), pool_head(18)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.middle(self.stem(x).relu()).relu()).relu())


@shelf.add(image(), units=18, prunes=("stem.0.weight:0", "reduce.weight:0", "grouped.weight:0"))
class Resnext(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 14, 3, bias=False), nn.BatchNorm2d(14), nn.ReLU())
        self.reduce, self.norm1 = nn.Conv2d(14, 16, 1, bias=False), nn.BatchNorm2d(16)
        self.grouped = nn.Conv2d(16, 16, 3, padding=1, groups=4, bias=False)
        self.norm2, self.expand = nn.BatchNorm2d(16), nn.Conv2d(16, 14, 1, bias=False)
        self.norm3, self.head = nn.BatchNorm2d(14), pool_head(14)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm1(self.reduce(x)).relu()
        y = self.norm3(self.expand(self.norm2(self.grouped(y)).relu()))
        return self.head((x + y).relu())


@shelf.add(
    image(), units=28, prunes=("stem.weight:0", "layers.0.1.weight:0", "layers.2.1.weight:0")
)
class Densenet(nn.Module):
    """Every layer reads all before it; the norms span several groups."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 10, 3)
        self.layers = nn.ModuleList(
            nn.ModuleList([nn.BatchNorm2d(10 + 6 * i), nn.Conv2d(10 + 6 * i, 6, 3, padding=1)])
            for i in range(3)
        )
        self.norm, self.head = nn.BatchNorm2d(28), pool_head(28)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.stem(x)]
        for norm, conv in self.layers:
            features.append(conv(norm(torch.cat(features, 1)).relu()))
        return self.head(self.norm(torch.cat(features, 1)).relu())


@shelf.add(image(), units=15, prunes=("block.0.weight:0",))
class PaddedShortcut(nn.Module):
    """Option A of the CIFAR ResNets: the shortcut is padded with channels of zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.block = nn.Sequential(
            nn.Conv2d(8, 15, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(15, 16, 3, padding=1)
        )
        self.head = pool_head(16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))
        return self.head((self.block(x) + shortcut).relu())


@shelf.add(
    image(),
    units=48,
    prunes=("down1.0.weight:0", "down2.0.weight:0", "up.weight:1", "mix.weight:1"),
)
class Unet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down1 = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.down2 = nn.Sequential(nn.Conv2d(8, 14, 3, padding=1), nn.BatchNorm2d(14), nn.ReLU())
        self.up = nn.ConvTranspose2d(14, 10, 2, stride=2)
        self.mix, self.out = nn.Conv2d(18, 16, 3, padding=1), nn.Conv2d(16, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down1(x)
        deep = self.up(self.down2(F.max_pool2d(skip, 2)))
        return self.out(self.mix(torch.cat([skip, deep], 1)).relu())


@shelf.add(
    image(), units=30, prunes=("left.weight:0", "right.weight:0", "back.weight:0", "last.weight:0")
)
class ResidualOverConcat(nn.Module):
    """Two groups side by side meet one: row i of the sum belongs to both."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 12, 1)
        self.back, self.last = nn.Conv2d(20, 20, 3, padding=1), nn.Conv2d(20, 12, 1)
        self.head = pool_head(12)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.left(x), self.right(x)], 1).relu()
        return self.head(self.last((x + self.back(x)).relu()).relu())


@shelf.add(image(), units=45, prunes=("stem.weight:0", "expand.weight:0", "project.weight:0"))
class InvertedResidual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.expand = nn.Conv2d(3, 11, 3), nn.Conv2d(11, 22, 1, bias=False)
        self.norm1, self.depthwise = nn.BatchNorm2d(22), nn.Conv2d(22, 22, 3, padding=1, groups=22)
        self.norm2, self.project = nn.BatchNorm2d(22), nn.Conv2d(22, 11, 1)
        self.last, self.head = nn.Conv2d(11, 12, 1), pool_head(12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = F.hardswish(self.norm1(self.expand(x)))
        y = F.hardswish(self.norm2(self.depthwise(y)))
        return self.head(F.hardswish(self.last(x + self.project(y))))


@shelf.add(image(), units=8, prunes=("stem.weight:0",))
class OneChannelConv(nn.Module):
    """A convolution with one output channel, and one with one input channel, are not depthwise."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gate = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 1, 1)
        self.spread, self.head = nn.Conv2d(1, 8, 1), pool_head(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        gate = self.gate(x).sigmoid()
        return self.head(x * gate + self.spread(gate))


@shelf.add(image(4, 10), units=22, prunes=("wide.weight:0", "high.weight:0"))
class AwkwardPadding(nn.Module):
    """Dilated, asymmetric, reflecting, replicating: only space is padded."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(4, 10, (3, 1), dilation=2, padding="same")
        self.high = nn.Conv2d(10, 12, 3, padding=1, padding_mode="reflect")
        self.pad, self.head = nn.ReplicationPad2d((1, 0, 2, 1)), pool_head(12)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(self.wide(x).relu(), (1, 2, 0, 1), value=0.5)
        return self.head(self.pad(self.high(x)).relu())


@shelf.add(image(), units=20, prunes=("stem.weight:0", "conv.weight:0"))
class Resampling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 12, 1)
        self.fc = nn.Linear(12 * 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(self.stem(x).relu(), scale_factor=2, mode="bilinear", align_corners=False)
        x = F.interpolate(F.avg_pool2d(x, 2, ceil_mode=True), size=(9, 7), mode="nearest")
        return self.fc(F.adaptive_max_pool2d(self.conv(x).relu(), 2).flatten(1))


@shelf.add(image(), units=32, prunes=("stem.weight:0", "squeeze.weight:0", "mix.weight:0"))
class PyramidPooling(nn.Module):
    """The same channels pooled to several sizes, blown up, and laid side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.squeeze = nn.Conv2d(3, 10, 3, padding=1), nn.Conv2d(10, 8, 1)
        self.mix, self.head = nn.Conv2d(26, 14, 1), pool_head(14)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        pooled = [self.squeeze(F.adaptive_avg_pool2d(x, size)).relu() for size in (1, 2)]
        return self.head(
            self.mix(torch.cat([x, *[F.interpolate(p, size=8) for p in pooled]], 1)).relu()
        )


@shelf.add(image(), prunes=("head.2.weight:1",))
class Res2net(nn.Module):
    """Equal parts, each added to the result of the one before; its width is an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.width, self.stem = 5, nn.Conv2d(3, 15, 3)
        self.convs = nn.ModuleList(nn.Conv2d(5, 5, 3, padding=1) for _ in range(2))
        self.last, self.head = nn.Conv2d(15, 12, 1), pool_head(12)

    def forward(self, x: Tensor) -> Tensor:
        parts = torch.split(self.stem(x).relu(), self.width, 1)
        out, last = [parts[0]], parts[0]
        for part, conv in zip(parts[1:], self.convs, strict=True):
            last = conv(last + part).relu()
            out.append(last)
        return self.head(self.last(torch.cat(out, 1)).relu())


@shelf.add(image(), units=10, prunes=("mix.weight:0", "last.weight:0"))
class Ghost(nn.Module):
    """Cheap copies: concat, then cut to a width that is kept as an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.out, self.primary = 15, nn.Conv2d(3, 8, 3)
        self.cheap, self.mix = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(15, 6, 1)
        self.last, self.head = nn.Conv2d(6, 4, 1), pool_head(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.primary(x).relu()
        x = torch.cat([x, self.cheap(x).relu()], 1)[:, : self.out]
        return self.head(self.last(self.mix(x)).relu())


@shelf.add(image(), units=11, prunes=("wide.0.weight:0", "point.0.weight:0"))
class Repvgg(nn.Module):
    """Three branches with a norm each, one of them the identity."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 11, 3)
        self.wide = nn.Sequential(nn.Conv2d(11, 11, 3, padding=1, bias=False), nn.BatchNorm2d(11))
        self.point = nn.Sequential(nn.Conv2d(11, 11, 1, bias=False), nn.BatchNorm2d(11))
        self.identity, self.head = nn.BatchNorm2d(11), pool_head(11)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head((self.wide(x) + self.point(x) + self.identity(x)).relu())


@shelf.add(
    normal(2, 4, 16), units=26, prunes=("net.0.weight:0", "net.3.weight:0", "net.7.weight:1")
)
def conv1d() -> nn.Module:
    net = nn.Sequential(
        *(nn.Conv1d(4, 12, 5), nn.BatchNorm1d(12), nn.LeakyReLU(0.1), nn.Conv1d(12, 14, 3)),
        *(nn.ELU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(14 * 5, 5)),
    )
    return _Named(net)


@shelf.add(normal(2, 2, 4, 6, 6), units=18, prunes=("net.0.weight:0", "net.3.weight:0"))
def conv3d() -> nn.Module:
    net = nn.Sequential(
        *(nn.Conv3d(2, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU(), nn.Conv3d(8, 10, (1, 3, 3))),
        *(nn.GELU(), nn.AvgPool3d(2), nn.Flatten(), nn.Linear(10 * 8, 5)),
    )
    return _Named(net)


class _Named(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


NETS = tuple(shelf.nets)

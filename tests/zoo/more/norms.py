"""Normalisations and what they leave behind when a channel is masked."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.net import Shelf, image, normal, pool_head

shelf = Shelf()


class _Normed(nn.Module):
    """conv → what is tried → conv → classifier."""

    def __init__(self, norm: nn.Module, width: int = 12) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, width, 3), norm
        self.last, self.head = nn.Conv2d(width, 10, 1), pool_head(10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.norm(self.stem(x)).relu()).relu())


class _Summed(_Normed):
    """No parameter reads the channels: what a masked channel still emits cannot be stopped."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).sum(1, keepdim=True)
        return self.head(self.last(x.expand(-1, self.last.in_channels, -1, -1)).relu())


@shelf.add(image(), units=22, prunes=("stem.weight:0", "norm.running_mean:0"))
def plain_batch_norm() -> nn.Module:
    return _Normed(nn.BatchNorm2d(12, affine=False))


@shelf.add(image(), units=10)
def plain_batch_norm_summed() -> nn.Module:
    """(0 - mean) / deviation is not 0."""
    return _Summed(nn.BatchNorm2d(12, affine=False))


@shelf.add(image(), units=10)
def batch_norm_summed() -> nn.Module:
    return _Summed(nn.BatchNorm2d(12))


@shelf.add(image(), units=22, prunes=("stem.weight:0", "norm.weight:0"))
def batch_statistics() -> nn.Module:
    """No running statistics: each channel is normalised by its own batch, also in eval mode."""
    return _Normed(nn.BatchNorm2d(12, track_running_stats=False))


@shelf.add(image(), units=22, prunes=("stem.weight:0", "norm.weight:0"))
def instance_norm() -> nn.Module:
    return _Normed(nn.InstanceNorm2d(12, affine=True))


@shelf.add(image(), units=10)
def tracked_instance_norm() -> nn.Module:
    return _Normed(nn.InstanceNorm2d(12, track_running_stats=True))


@shelf.add(image(), units=10)
def local_response_norm() -> nn.Module:
    """A window slides over the channels."""
    return _Normed(nn.LocalResponseNorm(3))


@shelf.add(
    image(),
    units=22,
    prunes=("stem.weight:0",),
    declares={"stem.weight:0": "*group_norm*|*layer_norm*"},
)
def one_group() -> nn.Module:
    return _Normed(nn.GroupNorm(1, 12))


@shelf.add(image(), units=10)
def group_of_one() -> nn.Module:
    """As many groups as channels: exact, if the number of groups is mended."""
    return _Normed(nn.GroupNorm(12, 12))


@shelf.add(image(), units=10)
def plain_group_norm() -> nn.Module:
    return _Normed(nn.GroupNorm(3, 12, affine=False))


class _LayerNorm2d(nn.LayerNorm):
    """Over the channels of a map, by a permutation there and back."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@shelf.add(image(), units=22, prunes=("stem.weight:0",), declares={"norm.weight:0": "*layer_norm*"})
def layer_norm_of_maps() -> nn.Module:
    return _Normed(_LayerNorm2d(12))


@shelf.add(image(), units=10)
def layer_norm_over_space() -> nn.Module:
    """Channels, height and width together; the affine has three dims."""
    return _Normed(nn.LayerNorm((12, 6, 6)))


@shelf.add(image(), units=10)
def plain_layer_norm() -> nn.Module:
    return _Normed(
        nn.Sequential(
            nn.Flatten(), nn.LayerNorm(432, elementwise_affine=False), nn.Unflatten(1, (12, 6, 6))
        )
    )


class _ResponseNorm(nn.Module):
    """Global response normalisation (ConvNeXt v2): each channel against the mean of all."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma, self.beta = (nn.Parameter(torch.zeros(1, width, 1, 1)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        energy = torch.norm(x, p=2, dim=(2, 3), keepdim=True)
        return self.gamma * (x * energy / (energy.mean(dim=1, keepdim=True) + 1e-6)) + self.beta + x


@shelf.add(image(), units=10)
def global_response_norm() -> nn.Module:
    return _Normed(_ResponseNorm(12))


class _RmsByHand(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


class _Mlp(nn.Module):
    """Linear → what is tried → Linear → Linear."""

    def __init__(self, norm: nn.Module, width: int = 14) -> None:
        super().__init__()
        self.up, self.norm = nn.Linear(9, width), norm
        self.mid, self.down = nn.Linear(width, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.mid(self.norm(self.up(x))).relu())


@shelf.add(
    normal(2, 9), units=26, prunes=("up.weight:0",), declares={"norm.weight:0": "*rms*|*mean*"}
)
def rms_norm() -> nn.Module:
    return _Mlp(nn.RMSNorm(14))


@shelf.add(normal(2, 9), units=12)
def rms_norm_by_hand() -> nn.Module:
    return _Mlp(_RmsByHand(14))


class _UnitLength(nn.Module):
    """Divided by the norm over the channels: zeros add nothing, so this is exact."""

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1)


@shelf.add(normal(2, 9), units=12)
def normalised_features() -> nn.Module:
    return _Mlp(_UnitLength())


@shelf.add(normal(2, 9), units=26, prunes=("up.weight:0", "norm.weight:0"))
def prelu_per_channel() -> nn.Module:
    return _Mlp(nn.PReLU(14))


class _TokenNorm(_Mlp):
    """BatchNorm1d over (batch, channels, tokens), reached by a transposition."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.up(x).transpose(1, 2)).transpose(1, 2)
        return self.down(self.mid(x).relu())


@shelf.add(normal(2, 7, 9), units=26, prunes=("up.weight:0", "norm.weight:0"))
def batch_norm_of_tokens() -> nn.Module:
    return _TokenNorm(nn.BatchNorm1d(14))


@shelf.add(normal(2, 14, 9), units=12, prunes=("mid.weight:0",))
class BatchNormOverTokens(_Mlp):
    """BatchNorm1d on (b, n, c): what it normalises is the token, not the channel."""

    def __init__(self) -> None:
        super().__init__(nn.BatchNorm1d(14))

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.mid(self.norm(self.up(x))).relu().mean(1))


class _FrozenNorm(nn.Module):
    """A batch norm made of four buffers (detection networks)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.rand(width) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + 1e-5).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale.reshape(1, -1, 1, 1) + shift.reshape(1, -1, 1, 1)


@shelf.add(image(), units=22, prunes=("stem.weight:0", "norm.weight:0"))
def frozen_batch_norm() -> nn.Module:
    return _Normed(_FrozenNorm(12))


class _Divide(nn.Module):
    """Divided by a parameter: a masked divisor gives 0 / 0."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(width) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x / self.scale


@shelf.add(normal(2, 9), units=12)
def divided_by_parameter() -> nn.Module:
    return _Mlp(_Divide(14))


class _Logarithm(nn.Module):
    """log(0) in a masked channel is infinite, and 0 times that is no number."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.log(x.square())


@shelf.add(normal(2, 9), units=12)
def logarithm_of_channels() -> nn.Module:
    return _Mlp(_Logarithm())


NETS = tuple(shelf.nets)

"""Weights that are computed, shared, transposed, reparametrised or loose."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from tests.zoo.net import Shelf, image, normal, pool_head

shelf = Shelf()


class _Mlp(nn.Module):
    """9 → 14 → 12 → 5, to be reparametrised."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.mid, self.down = nn.Linear(9, 14), nn.Linear(14, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.mid(self.up(x).relu()).relu())


class _StandardisedConv(nn.Conv2d):
    """Each filter is normalised over all its inputs."""

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True, correction=0)
        weight = (self.weight - mean) / torch.sqrt(variance + 1e-6)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


@shelf.add(image(), units=10, prunes=("last.weight:0",))
class WeightStandardisation(nn.Module):
    """Filters may leave exactly; the inputs of a standardised layer change its statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = _StandardisedConv(3, 12, 3), _StandardisedConv(12, 14, 3)
        self.last, self.head = nn.Conv2d(14, 10, 1), pool_head(10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.conv(self.stem(x).relu()).relu()).relu())


@shelf.add(image(), units=10, prunes=("last.weight:0",))
class BatchNormOfWeights(nn.Module):
    """Weight standardisation as NFNet writes it: a batch norm with batch statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 14, 3)
        self.gain = nn.Parameter(torch.ones(14, 1, 1, 1))
        self.last, self.head = nn.Conv2d(14, 10, 1), pool_head(10)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.conv.weight
        weight = F.batch_norm(
            weight.reshape(1, weight.shape[0], -1), None, None, self.gain.view(-1), training=True
        ).reshape_as(weight)
        return self.head(
            self.last(F.conv2d(self.stem(x).relu(), weight, self.conv.bias).relu()).relu()
        )


@shelf.add(normal(2, 9))
def weight_norm() -> nn.Module:
    net = _Mlp()
    parametrizations.weight_norm(net.mid)
    return net


@shelf.add(normal(2, 9))
def spectral_norm() -> nn.Module:
    net = _Mlp()
    parametrizations.spectral_norm(net.mid)
    return net


@shelf.add(normal(2, 9))
def orthogonal() -> nn.Module:
    net = _Mlp()
    parametrizations.orthogonal(net.up)
    return net


class _Absolute(nn.Module):
    """Never negative; 0 stays 0."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight.abs()


class _Exponential(nn.Module):
    """Never zero: masking the original does not mask the weight."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight.exp()


@shelf.add(normal(2, 9))
def parametrised_absolute() -> nn.Module:
    net = _Mlp()
    parametrize.register_parametrization(net.mid, "weight", _Absolute())
    return net


@shelf.add(normal(2, 9))
def parametrised_exponential() -> nn.Module:
    net = _Mlp()
    parametrize.register_parametrization(net.mid, "weight", _Exponential())
    return net


@shelf.add(normal(2, 9), units=12, prunes=("down.weight:1",))
class ExponentialWeight(nn.Module):
    """The same by hand: a removed row would come back as a row of ones."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.log, self.down = (
            nn.Linear(9, 14),
            nn.Parameter(torch.randn(12, 14)),
            nn.Linear(12, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.linear(self.up(x).sigmoid(), self.log.exp()).relu())


@shelf.add(normal(2, 9), units=32, prunes=("base.weight:0", "a:0", "b:0", "up.weight:0"))
class Lora(nn.Module):
    """base(x) + b(a(x)): the rank is a row of units of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.base, self.down = nn.Linear(9, 14), nn.Linear(14, 12), nn.Linear(12, 5)
        self.a, self.b = nn.Parameter(torch.randn(6, 14)), nn.Parameter(torch.zeros(12, 6))

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x).relu()
        return self.down((self.base(x) + x @ self.a.T @ self.b.T * 0.5).relu())


@shelf.add(normal(2, 9), units=26, prunes=("up.weight:0", "base.weight:0"))
class LoraMerged(nn.Module):
    """The product of the factors is added to the weight, not to the output."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.base, self.down = nn.Linear(9, 14), nn.Linear(14, 12), nn.Linear(12, 5)
        self.a, self.b = nn.Parameter(torch.randn(6, 14)), nn.Parameter(torch.zeros(12, 6))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.base.weight + self.b @ self.a
        return self.down(F.linear(self.up(x).relu(), weight, self.base.bias).relu())


@shelf.add(normal(2, 9), units=14, prunes=("encode.weight:0", "encode.weight:1"))
class TiedAutoencoder(nn.Module):
    """One weight, used as it is and transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.encode = nn.Linear(9, 12), nn.Linear(12, 8)
        self.back, self.last = nn.Parameter(torch.zeros(12)), nn.Linear(12, 9)

    def forward(self, x: Tensor) -> Tensor:
        code = self.encode(self.stem(x).relu()).relu()
        return self.last(F.linear(code, self.encode.weight.t(), self.back).relu())


@shelf.add(normal(2, 9), units=12, prunes=("up.weight:0",))
class SymmetricWeight(nn.Module):
    """w + w^T: rows and columns are the same units."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.mix, self.down = (
            nn.Linear(9, 12),
            nn.Parameter(torch.randn(12, 12)),
            nn.Linear(12, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.down((self.up(x).relu() @ (self.mix + self.mix.T)).relu())


@shelf.add(normal(2, 9), units=12)
class HyperNetwork(nn.Module):
    """A weight that another layer puts out: (b, 12, 8) from 96 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.embed = nn.Linear(9, 8), nn.Linear(9, 12)
        self.make, self.down = nn.Linear(12, 10 * 8), nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.make(self.embed(x).relu()).view(x.shape[0], -1, self.features.out_features)
        return self.down(torch.bmm(weight, self.features(x).relu()[:, :, None])[..., 0].relu())


@shelf.add(normal(2, 9), units=14, prunes=("up.weight:0",))
class MaskedWeight(nn.Module):
    """A fixed pattern of zeros kept as a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.mid, self.down = nn.Linear(9, 14), nn.Linear(14, 12), nn.Linear(12, 5)
        self.register_buffer("pattern", (torch.rand(12, 14) < 0.6).float())

    def forward(self, x: Tensor) -> Tensor:
        weight = self.mid.weight * self.pattern
        return self.down(F.linear(self.up(x).relu(), weight, self.mid.bias).relu())


@shelf.add(normal(2, 9), units=20, prunes=("weights.0:0", "weights.1:0", "shifts.b0:0"))
class ParameterLists(nn.Module):
    """Parameters in a ParameterList and a ParameterDict."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (9, 12, 8, 5)
        pairs = list(pairwise(sizes))
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(b, a) / 3) for a, b in pairs)
        self.shifts = nn.ParameterDict({f"b{i}": torch.zeros(b) for i, (_, b) in enumerate(pairs)})

    def forward(self, x: Tensor) -> Tensor:
        for i, weight in enumerate(self.weights):
            x = F.linear(x, weight, self.shifts[f"b{i}"])
            x = F.leaky_relu(x) if i < len(self.weights) - 1 else x
        return x


@shelf.add(normal(2, 9), units=26, prunes=("up.weight:0", "mid.weight:0"))
class FrozenWeights(_Mlp):
    """Parameters that take no gradient are pruned like others."""

    def __init__(self) -> None:
        super().__init__()
        self.requires_grad_(False)


@shelf.add(normal(2, 9), units=26, prunes=("up.weight:0", "mid.weight:0"))
class ScalarParameters(_Mlp):
    """Parameters without a dim, and of size 1."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature, self.gain = nn.Parameter(torch.tensor(0.7)), nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x).relu() * self.temperature
        return self.down(self.mid(x).relu() * self.gain)


@shelf.add(normal(2, 9), units=20, prunes=("up.weight:0",))
class ExpertsStacked(nn.Module):
    """A row of experts in one parameter (e, out, in), mixed by a soft router."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.router = nn.Linear(9, 8), nn.Linear(8, 4)
        self.experts, self.down = nn.Parameter(torch.randn(4, 12, 8)), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x).relu()
        out = torch.einsum("bi,eoi->beo", x, self.experts).relu()
        return self.down((out * self.router(x).softmax(-1)[..., None]).sum(1))


NETS = tuple(shelf.nets)

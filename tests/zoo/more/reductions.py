"""Operators that read across the channels: sums, means, maxima, orders, products."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.net import Shelf, image, normal, pool_head

shelf = Shelf()


class _Between(nn.Module):
    """Linear 9 → 14 → what `across` does with them, to width `width` → Linear 12 → Linear 5."""

    def __init__(self, width: int = 14) -> None:
        super().__init__()
        self.up, self.mid, self.down = nn.Linear(9, 14), nn.Linear(width, 12), nn.Linear(12, 5)

    def across(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.mid(self.across(self.up(x))).relu())


@shelf.add(normal(2, 9), units=12)
class SoftmaxOverChannels(_Between):
    def across(self, x: Tensor) -> Tensor:
        return x.softmax(-1)


@shelf.add(normal(2, 9), units=12)
class SoftmaxGate(_Between):
    """Weights over channels that sum to 1 whatever their number."""

    def across(self, x: Tensor) -> Tensor:
        return x * x.softmax(-1)


@shelf.add(normal(2, 9), units=12)
class LogSumExp(_Between):
    def across(self, x: Tensor) -> Tensor:
        return x - x.logsumexp(-1, keepdim=True)


@shelf.add(normal(2, 9), units=12)
class MeanOverChannels(_Between):
    def across(self, x: Tensor) -> Tensor:
        return x - x.mean(-1, keepdim=True)


@shelf.add(normal(2, 9), units=12)
class MaxOverChannels(_Between):
    """A masked channel is 0, which may be the largest."""

    def across(self, x: Tensor) -> Tensor:
        return x - x.amax(-1, keepdim=True)


@shelf.add(normal(2, 9), units=12)
class MinOverChannels(_Between):
    def across(self, x: Tensor) -> Tensor:
        return x * x.min(-1, keepdim=True).values


@shelf.add(normal(2, 9), units=12)
class ProductOverChannels(_Between):
    def across(self, x: Tensor) -> Tensor:
        return x + x.tanh().prod(-1, keepdim=True)


@shelf.add(normal(2, 9), units=12)
class DeviationOverChannels(_Between):
    def across(self, x: Tensor) -> Tensor:
        return x / (x.std(-1, keepdim=True) + 0.1)


@shelf.add(normal(2, 9), units=12, refuses={"up.weight": "*cumsum*"})
class RunningSum(_Between):
    def across(self, x: Tensor) -> Tensor:
        return x.cumsum(-1)


@shelf.add(normal(2, 9), units=12, refuses={"up.weight": "*sort*"})
class Sorted(_Between):
    def across(self, x: Tensor) -> Tensor:
        return x.sort(-1).values


@shelf.add(normal(2, 9), refuses={"up.weight": "*topk*"})
class TopK(_Between):
    def __init__(self) -> None:
        super().__init__(width=6)

    def across(self, x: Tensor) -> Tensor:
        return x.topk(6, dim=-1).values


@shelf.add(normal(2, 9), units=12, refuses={"up.weight": "*argmax*"})
class ArgMax(_Between):
    """The number of the largest channel chooses a row of a table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(14, 14)

    def across(self, x: Tensor) -> Tensor:
        return x + self.table(x.argmax(-1))


@shelf.add(normal(2, 9), units=12)
class Median(_Between):
    def across(self, x: Tensor) -> Tensor:
        return x - x.median(-1, keepdim=True).values


@shelf.add(normal(2, 9), units=26, prunes=("up.weight:0", "mid.weight:0"))
class SumOverChannels(_Between):
    """Exact: relu(0) adds nothing to the sum."""

    def across(self, x: Tensor) -> Tensor:
        return x * x.relu().sum(-1, keepdim=True)


@shelf.add(normal(2, 9), units=12)
class SigmoidSum(_Between):
    """sigmoid(0) = 0.5 of every masked channel leaks into the sum."""

    def across(self, x: Tensor) -> Tensor:
        return x * x.sigmoid().sum(-1, keepdim=True)


@shelf.add(normal(2, 9), units=12)
class CosineSum(_Between):
    def across(self, x: Tensor) -> Tensor:
        return x + x.cos().sum(-1, keepdim=True)


@shelf.add(normal(2, 9), units=12)
class ShiftedSum(_Between):
    """x + 1 is 1 where x is masked."""

    def across(self, x: Tensor) -> Tensor:
        return x * (1 - x).sum(-1, keepdim=True)


@shelf.add(normal(2, 9), units=12)
class ThresholdCount(_Between):
    """How many channels are below 1: a masked one is."""

    def across(self, x: Tensor) -> Tensor:
        return x * (x < 1).to(x.dtype).sum(-1, keepdim=True)


@shelf.add(normal(2, 9), units=12)
class ExponentialProduct(_Between):
    """Two maps that are not 0 at 0, contracted with each other."""

    def across(self, x: Tensor) -> Tensor:
        return x * (x.exp() * x.cosh()).sum(-1, keepdim=True)


@shelf.add(normal(2, 9), units=12)
class FilledBeforeSum(_Between):
    def across(self, x: Tensor) -> Tensor:
        return x * x.masked_fill(x.abs() < 0.1, 0.5).sum(-1, keepdim=True)


@shelf.add(normal(2, 9), units=12)
class WhereOverChannels(_Between):
    def across(self, x: Tensor) -> Tensor:
        return x * torch.where(x > 0, x, torch.full_like(x, 0.25)).sum(-1, keepdim=True)


@shelf.add(normal(2, 9), units=12)
class ConstantPadThenSum(_Between):
    def across(self, x: Tensor) -> Tensor:
        return x * F.pad(x[:, :, None], (1, 1), value=1.0).sum((1, 2))[:, None]


@shelf.add(image(), units=12, prunes=("last.weight:0",))
class SpatialGate(nn.Module):
    """Mean and maximum over the channels make a map (CBAM)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gate = nn.Conv2d(3, 10, 3), nn.Conv2d(2, 1, 3, padding=1)
        self.last, self.head = nn.Conv2d(10, 12, 1), pool_head(12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        gate = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], 1)
        return self.head(self.last(x * self.gate(gate).sigmoid()).relu())


@shelf.add(normal(2, 9), units=26, prunes=("up.weight:0", "other.weight:0"))
class BranchProduct(_Between):
    """x1 * x2 as in a gated MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(9, 14)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.mid(self.up(x) * F.silu(self.other(x))).relu())


@shelf.add(normal(2, 9), units=12)
class Maxout(_Between):
    """The larger of two neighbours."""

    def __init__(self) -> None:
        super().__init__(width=7)

    def across(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1] // 2, 2).max(-1).values


@shelf.add(normal(2, 9), units=19, prunes=("up.weight:0", "mid.weight:1"))
class GatedLinearUnit(_Between):
    def __init__(self) -> None:
        super().__init__(width=7)

    def across(self, x: Tensor) -> Tensor:
        return F.glu(x, dim=-1)


@shelf.add(normal(2, 9), units=10, prunes=("mid.weight:0",))
class OuterProduct(nn.Module):
    """Every pair of a left and a right channel is a column of the next layer."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(9, 6), nn.Linear(9, 4)
        self.mid, self.down = nn.Linear(24, 10), nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        pairs = torch.einsum("bi,bj->bij", self.left(x), self.right(x).relu())
        return self.down(self.mid(pairs.flatten(1)).relu())


@shelf.add(image(), units=10)
class BilinearPooling(nn.Module):
    """Covariance of channels over space, flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mid, self.down = nn.Conv2d(3, 6, 3), nn.Linear(36, 10), nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu().flatten(2)
        return self.down(self.mid((x @ x.mT / x.shape[-1]).flatten(1)).relu())


@shelf.add(lambda: (torch.randn(2, 9), torch.randn(2, 9)), units=12)
class CosineSimilarity(nn.Module):
    """A siamese pair whose features meet in one number."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.mid = nn.Linear(9, 12), nn.Linear(12, 10)
        self.out = nn.Linear(1, 3)

    def tower(self, x: Tensor) -> Tensor:
        return self.mid(self.up(x).relu())

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.out(F.cosine_similarity(self.tower(x), self.tower(y), dim=1)[:, None])


@shelf.add(lambda: (torch.randn(4, 9), torch.randn(3, 9)), units=12)
class Distances(CosineSimilarity):
    """Euclidean distances between two sets of features."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.cdist(self.tower(x), self.tower(y))


@shelf.add(normal(2, 9), units=26, prunes=("up.weight:0", "other.weight:0"))
class StackAndSum(_Between):
    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(9, 14)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.stack([self.up(x), self.other(x).tanh(), self.up(x).relu()], dim=1)
        return self.down(self.mid(x.sum(1)).relu())


@shelf.add(image(), units=16, prunes=("near.weight:0", "choose.weight:0", "squeeze.weight:0"))
class SelectiveKernel(nn.Module):
    """Two branches weighed by a softmax over the branches, channel by channel."""

    def __init__(self) -> None:
        super().__init__()
        self.near, self.far = (
            nn.Conv2d(3, 10, 3, padding=1),
            nn.Conv2d(3, 10, 3, padding=2, dilation=2),
        )
        self.squeeze, self.choose, self.head = nn.Linear(10, 6), nn.Linear(6, 20), pool_head(10)

    def forward(self, x: Tensor) -> Tensor:
        branches = torch.stack([self.near(x).relu(), self.far(x).relu()], 1)
        code = self.squeeze(branches.sum(1).mean((2, 3))).relu()
        weights = self.choose(code).view(x.shape[0], 2, -1).softmax(1)
        return self.head((branches * weights[..., None, None]).sum(1))


NETS = tuple(shelf.nets)

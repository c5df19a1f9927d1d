"""Tables, bags, positions and layers with two inputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.zoo.net import Shelf, image, normal, pool_head, tokens

shelf = Shelf()


@shelf.add(tokens(), units=24, prunes=("bag.weight:1", "mid.weight:0"))
class BagOfWords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bag, self.mid = nn.EmbeddingBag(30, 10, mode="sum"), nn.Linear(10, 14)
        self.down = nn.Linear(14, 5)

    def forward(self, ids: Tensor) -> Tensor:
        return self.down(self.mid(self.bag(ids)).relu())


@shelf.add(tokens(), units=24, prunes=("words.weight:1", "places.weight:1", "mid.weight:0"))
class SummedEmbeddings(nn.Module):
    """Words with a padding row, and learned places, added."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(30, 10, padding_idx=0), nn.Embedding(6, 10)
        self.mid, self.down = nn.Linear(10, 14), nn.Linear(14, 5)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids) + self.places(torch.arange(ids.shape[1]))
        return self.down(self.mid(x).relu().amax(1))


@shelf.add(tokens(), units=22, prunes=("words.weight:1", "conv.weight:0", "conv.weight:1"))
class TextConvolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.conv = nn.Embedding(30, 10), nn.Conv1d(10, 12, 3)
        self.down = nn.Linear(12, 5)

    def forward(self, ids: Tensor) -> Tensor:
        return self.down(self.conv(self.words(ids).transpose(1, 2)).relu().max(-1).values)


@shelf.add(tokens(), units=20, prunes=("mid.weight:0", "narrow.weight:1"))
class FactorisedEmbedding(nn.Module):
    """A narrow table blown up by a Linear (ALBERT), scaled by the root of a literal."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow, self.widen = nn.Embedding(30, 6), nn.Linear(6, 12, bias=False)
        self.mid, self.down = nn.Linear(12, 14), nn.Linear(14, 5)

    def forward(self, ids: Tensor) -> Tensor:
        return self.down(self.mid(self.widen(self.narrow(ids)) * 12**0.5).relu().mean(1))


@shelf.add(normal(2, 9), units=12)
class BilinearLayer(nn.Module):
    """nn.Bilinear: one weight with three dims."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.both = nn.Linear(9, 8), nn.Linear(9, 6), nn.Bilinear(8, 6, 10)
        self.mid, self.down = nn.Linear(10, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.both(self.left(x).relu(), self.right(x).tanh())
        return self.down(self.mid(x.relu()).relu())


@shelf.add(image(), units=22, prunes=("stem.weight:0", "position:1", "last.weight:0"))
class PositionMap(nn.Module):
    """A learned map (1, C, h, w) added to the features, and coordinates laid beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.position = nn.Conv2d(3, 12, 3), nn.Parameter(torch.randn(1, 12, 6, 6))
        self.last, self.head = nn.Conv2d(14, 10, 1), pool_head(10)

    def forward(self, x: Tensor) -> Tensor:
        x = (self.stem(x) + self.position).relu()
        line = torch.linspace(-1, 1, 6, dtype=x.dtype)
        grid = torch.stack(torch.meshgrid(line, line, indexing="ij"))
        return self.head(self.last(torch.cat([x, grid.expand(len(x), -1, -1, -1)], 1)).relu())


@shelf.add(
    lambda: (torch.randn(2, 3, 8, 8), torch.tensor([1, 2])), units=10, prunes=("stem.weight:0",)
)
class FeatureWiseModulation(nn.Module):
    """Scale and shift of each channel from the embedding of a condition (FiLM)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.condition = nn.Conv2d(3, 10, 3), nn.Embedding(4, 20)
        self.head = pool_head(10)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        scale, shift = self.condition(label)[..., None, None].chunk(2, dim=1)
        return self.head((self.stem(x) * (1 + scale) + shift).relu())


NETS = tuple(shelf.nets)

"""Operators that move, cut, repeat and fold channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.net import Shelf, image, normal, pool_head

shelf = Shelf()


class _Maps(nn.Module):
    """conv 3 → 12, what `shape` does with the maps to `width` channels, conv → 10, classifier."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, 12, 3), nn.Conv2d(width, 10, 1)
        self.head = pool_head(10)

    def shape(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.shape(self.stem(x).relu())).relu())


@shelf.add(normal(2, 9), units=26, prunes=("up.weight:0", "first.weight:1", "first.weight:0"))
class UnflattenDecoder(nn.Module):
    """A vector becomes maps by Unflatten, whose sizes are attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.unflatten = nn.Linear(9, 8 * 16), nn.Unflatten(1, (8, 4, 4))
        self.first = nn.ConvTranspose2d(8, 18, 2, stride=2)
        self.last = nn.Conv2d(18, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(self.unflatten(self.up(x).relu())).relu()).tanh()


@shelf.add(normal(2, 9), units=18, prunes=("first.weight:0",))
class ViewDecoder(UnflattenDecoder):
    """The same by a view with the number of channels left open."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x).relu().view(x.shape[0], -1, 4, 4)
        return self.last(self.first(x).relu()).tanh()


@shelf.add(image(), units=16, prunes=("stem.weight:0",))
class FlipChannels(_Maps):
    """Channel i meets channel 11 - i."""

    def shape(self, x: Tensor) -> Tensor:
        return x + x.flip(1).tanh()


@shelf.add(image(), units=22, prunes=("stem.weight:0", "last.weight:1"))
class FlippedConcat(_Maps):
    """Turned round and laid beside itself: nothing is united, the reader is."""

    def __init__(self) -> None:
        super().__init__(width=24)

    def shape(self, x: Tensor) -> Tensor:
        return torch.cat([x, x.flip(1)], 1)


@shelf.add(image(), units=10)
class RollChannels(_Maps):
    def shape(self, x: Tensor) -> Tensor:
        return x + x.roll(1, dims=1)


@shelf.add(image(), units=22, prunes=("stem.weight:0",))
class RepeatChannels(_Maps):
    def __init__(self) -> None:
        super().__init__(width=36)

    def shape(self, x: Tensor) -> Tensor:
        return x.repeat(1, 3, 1, 1)


@shelf.add(image(), units=22, prunes=("stem.weight:0",))
class RepeatEachChannel(_Maps):
    def __init__(self) -> None:
        super().__init__(width=24)

    def shape(self, x: Tensor) -> Tensor:
        return torch.repeat_interleave(x, 2, dim=1)


@shelf.add(image(), units=10, refuses={"stem.weight": "*index*"})
class IndexSelect(_Maps):
    """Channels picked by numbers in the code."""

    def __init__(self) -> None:
        super().__init__(width=5)

    def shape(self, x: Tensor) -> Tensor:
        return x.index_select(1, torch.tensor([0, 3, 3, 7, 11]))


@shelf.add(image(), units=10, refuses={"stem.weight": "*index*"})
class IndexByBuffer(_Maps):
    """Advanced indexing with a permutation kept as a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("order", torch.randperm(12))

    def shape(self, x: Tensor) -> Tensor:
        return x[:, self.order]


@shelf.add(image(), units=10, refuses={"stem.weight": "*gather*"})
class GatherChannels(_Maps):
    def __init__(self) -> None:
        super().__init__(width=4)

    def shape(self, x: Tensor) -> Tensor:
        index = torch.tensor([1, 5, 2, 9]).view(1, 4, 1, 1)
        return x.gather(1, index.expand(x.shape[0], -1, *x.shape[2:]))


@shelf.add(image(), units=10, refuses={"stem.weight": "*select*|*index*|*getitem*"})
class OneChannelByNumber(_Maps):
    def shape(self, x: Tensor) -> Tensor:
        return x * x[:, 3:4] + x[:, 5].unsqueeze(1)


@shelf.add(image(), units=10, refuses={"stem.weight": "*slice*|*getitem*"})
class EverySecondChannel(_Maps):
    def __init__(self) -> None:
        super().__init__(width=6)

    def shape(self, x: Tensor) -> Tensor:
        return x[:, ::2] * x[:, 1::2]


@shelf.add(image(), units=10, prunes=("last.weight:0",))
class UnequalChunks(_Maps):
    """12 channels in chunks of 5, 5 and 2: the chunk size follows from the number of channels."""

    def shape(self, x: Tensor) -> Tensor:
        first, second, third = x.chunk(3, 1) if x.shape[1] % 3 else x.split(5, 1)
        return torch.cat([third, first * second.sigmoid(), second], 1)


@shelf.add(image(), units=10, prunes=("last.weight:0",))
class SplitSizes(_Maps):
    """Sizes of the parts kept in a list, one part untouched."""

    def __init__(self) -> None:
        super().__init__(width=12)
        self.sizes = [7, 5]
        self.conv = nn.Conv2d(7, 7, 3, padding=1)

    def shape(self, x: Tensor) -> Tensor:
        left, right = x.split(self.sizes, dim=1)
        return torch.cat([self.conv(left), right], 1)


@shelf.add(image(), units=10, prunes=("last.weight:0",))
class PartialConv(_Maps):
    """The first third is convolved in place of a copy (FasterNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.part, self.conv = 4, nn.Conv2d(4, 4, 3, padding=1)

    def shape(self, x: Tensor) -> Tensor:
        x = x.clone()
        x[:, : self.part] = self.conv(x[:, : self.part])
        return x


@shelf.add(image(), units=10)
class AddIntoSlice(_Maps):
    def shape(self, x: Tensor) -> Tensor:
        x = x.clone()
        x[:, 4:].add_(x[:, :8].tanh())
        return x


@shelf.add(image(), units=10)
class WriteIntoZeros(_Maps):
    """A buffer of zeros with room for two branches."""

    def __init__(self) -> None:
        super().__init__(width=20)
        self.other = nn.Conv2d(3, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.stem(x).relu(), self.other(x).tanh()
        room = torch.zeros(x.shape[0], a.shape[1] + b.shape[1], *a.shape[2:], dtype=a.dtype)
        room[:, : a.shape[1]] = a
        room[:, a.shape[1] :] = b
        return self.head(self.last(room).relu())


@shelf.add(image(), units=22, prunes=("stem.weight:0", "last.weight:1"))
class SpaceToDepth(_Maps):
    """Each channel becomes four."""

    def __init__(self) -> None:
        super().__init__(width=48)

    def shape(self, x: Tensor) -> Tensor:
        return F.pixel_unshuffle(x, 2)


@shelf.add(image(), units=22, prunes=("stem.weight:0", "last.weight:1"))
class Focus(_Maps):
    """Space to depth by strided slices and a concatenation."""

    def __init__(self) -> None:
        super().__init__(width=48)

    def shape(self, x: Tensor) -> Tensor:
        corners = [x[..., i::2, j::2] for i in range(2) for j in range(2)]
        return torch.cat(corners, 1)


@shelf.add(image(), units=10, prunes=("last.weight:0",))
class Unfolded(_Maps):
    """im2col: channel times kernel position."""

    def __init__(self) -> None:
        super().__init__(width=12 * 4)

    def shape(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        return F.unfold(x, 2, stride=2).view(b, -1, h // 2, w // 2)


@shelf.add(image(), units=10, prunes=("last.weight:0",))
class Folded(_Maps):
    """col2im puts it back."""

    def shape(self, x: Tensor) -> Tensor:
        patches = F.unfold(x, 2, stride=2) * 0.5
        return F.fold(patches.tanh(), x.shape[2:], 2, stride=2)


@shelf.add(normal(2, 3, 7, 9), units=26, prunes=("up.weight:0", "mid.weight:0"))
class LeadingDims(nn.Module):
    """`*x.shape[:-1]` and back: tokens folded into the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.mid, self.down = nn.Linear(9, 14), nn.Linear(14, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x).relu()
        flat = x.reshape(-1, x.size(-1))
        x = self.mid(flat).view(*x.shape[:-1], -1).relu()
        return self.down(x).flatten(1, 2)


@shelf.add(image(), units=22, prunes=("stem.weight:0", "last.weight:0", "fc.weight:1"))
class SizesFromNumel(_Maps):
    """A flatten whose width is computed from the number of elements."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(10 * 36, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.stem(x).relu()).relu()
        return self.fc(x.contiguous().view(x.size(0), x.numel() // x.size(0)))


@shelf.add(image(), units=22, prunes=("stem.weight:0", "last.weight:0"))
class MovedDims(_Maps):
    """Channels last and back, by five different operators."""

    def shape(self, x: Tensor) -> Tensor:
        x = x.movedim(1, -1).swapaxes(1, 2).tanh()
        x = torch.einsum("bwhc->bchw", x).permute(0, 2, 3, 1)
        return x.transpose(1, 3).mT.contiguous(memory_format=torch.channels_last)


@shelf.add(image(), units=10)
class NarrowedHalves(_Maps):
    """narrow and tensor_split at half of the width."""

    def __init__(self) -> None:
        super().__init__(width=6)

    def shape(self, x: Tensor) -> Tensor:
        half = x.shape[1] // 2
        first, second = torch.tensor_split(x, 2, dim=1)
        return x.narrow(1, 0, half) * second.sigmoid() + first


@shelf.add(image(), units=22, prunes=("stem.weight:0", "last.weight:1"))
class StackedCopies(_Maps):
    """stack + flatten: channels interleaved with a copy of themselves."""

    def __init__(self) -> None:
        super().__init__(width=24)

    def shape(self, x: Tensor) -> Tensor:
        return torch.stack([x, x.tanh()], dim=2).flatten(1, 2)


@shelf.add(image(), units=22, prunes=("stem.weight:0",))
class ChannelMask(_Maps):
    """A tensor of constants of the width of the channels, as a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", (torch.arange(12) % 3 > 0).float().view(1, 12, 1, 1))

    def shape(self, x: Tensor) -> Tensor:
        return x * self.mask + x.tanh()


@shelf.add(image(), units=10)
class PadChannels(_Maps):
    """Zeros before the first channel, the last channels dropped by a negative pad."""

    def shape(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, 0, 2, -2))


@shelf.add(image(), units=22, prunes=("stem.weight:0", "last.weight:1"))
class ExpandedOverSpace(_Maps):
    """A pooled vector is blown up to the maps it came from."""

    def __init__(self) -> None:
        super().__init__(width=24)

    def shape(self, x: Tensor) -> Tensor:
        context = x.mean((2, 3), keepdim=True).tanh()
        return torch.cat([x, context.expand_as(x)], dim=1)


@shelf.add(image(), units=10)
class Diagonal(_Maps):
    """A vector of channels as a diagonal matrix."""

    def shape(self, x: Tensor) -> Tensor:
        gate = torch.diag_embed(x.mean((2, 3)).sigmoid())
        return (gate @ x.flatten(2)).view_as(x)


@shelf.add(image(), units=10)
class Kronecker(_Maps):
    """A learned outer pattern per channel."""

    def __init__(self) -> None:
        super().__init__(width=24)
        self.pattern = nn.Parameter(torch.randn(2, 1, 1))

    def shape(self, x: Tensor) -> Tensor:
        return torch.stack([torch.kron(self.pattern, maps) for maps in x])


NETS = tuple(shelf.nets)

"""What a data set is: two splits that give batches (x, y), and how they were made."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from secateur.errors import DataError, OptionError
from secateur.types.samples import check_batch, check_tensors


class Batches:
    """Batches (x, y) of tensors; iterating again starts again.

    Shuffled with a seed, pass k over equal objects has the same order, and each pass its own;
    shuffled without one, the order follows `torch.manual_seed`. The last batch may be shorter.
    """

    def __init__(self, x: Tensor, y: Tensor, size: int, shuffle: bool, seed: int | None) -> None:
        self._x, self._y = x, y
        self._size, self._shuffle, self._seed = size, shuffle, seed
        self._passes = 0

    def __len__(self) -> int:
        return math.ceil(len(self._y) / self._size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if not self._shuffle:
            return zip(self._x.split(self._size), self._y.split(self._size), strict=True)
        generator = None
        if self._seed is not None:
            # a product with a large odd number keeps the passes of nearby seeds apart
            generator = torch.Generator().manual_seed(self._seed * 0x9E3779B1 + self._passes)
        self._passes += 1
        order = torch.randperm(len(self._y), generator=generator)
        return ((self._x[rows], self._y[rows]) for rows in order.split(self._size))


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """One part of a data set, in memory.

    Attributes:
        x: float32 (N, ...), images (N, C, H, W); finite.
        y: int64 (N,), classes counted from 0.

    Raises:
        DataError: empty, of unequal lengths, of another dtype, or not finite.
    """

    x: Tensor
    y: Tensor

    def __post_init__(self) -> None:
        check_tensors(self.x, self.y)

    def __len__(self) -> int:
        return len(self.y)

    def batches(self, size: int, *, shuffle: bool = False, seed: int | None = None) -> Batches:
        """The split in batches of `size` samples, as often as wanted."""
        if size < 1:
            raise OptionError(f"a batch of {size} samples is none", hint="1 or more")
        return Batches(self.x, self.y, size, shuffle, seed)


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """One part of a data set that a user's code reads batch by batch.

    Attributes:
        source: an iterable of batches (x, y) that can be iterated again, such as a list or a
            DataLoader, or a function that returns a fresh iterator.

    Raises:
        DataError: the source can be read only once.
    """

    source: Iterable[Any] | Callable[[], Iterable[Any]]
    name: str = "stream"

    def __post_init__(self) -> None:
        if callable(self.source):
            return
        if not isinstance(self.source, Iterable):
            raise DataError(
                f"a {type(self.source).__name__} gives no batches",
                where=self.name,
                hint="a list of batches (x, y), a DataLoader, or a function returning an iterator",
            )
        if isinstance(self.source, Iterator):
            raise DataError(
                "can be read only once, and the data are read several times",
                where=self.name,
                hint="give the function that makes the generator, not the generator itself",
            )

    def __iter__(self) -> Iterator[tuple[Any, Tensor]]:
        source = self.source() if callable(self.source) else self.source
        number = -1
        for number, batch in enumerate(source):
            yield check_batch(batch, where=f"{self.name}, batch {number}")
        if number < 0:
            raise DataError(
                "gave no batches",
                where=self.name,
                hint="a function must return a fresh iterator each time it is called",
            )

    def batches(self, size: int, *, shuffle: bool = False, seed: int | None = None) -> Stream:
        """The stream itself: its batch size and its order are those of the user's code."""
        return self


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Data to prune and to judge with.

    Attributes:
        name: the text it was loaded by.
        train: what scores, recalibration and fine-tuning may see.
        test: what accuracy is measured on; no sample of it is in `train`.
        classes: class names by index; empty where they are not known.
        about: where the data come from, their licence, and how they were prepared.
        mean, std: what was subtracted and then divided by, per channel, pixels being 0 to 1; empty
            where the data were taken as they are.
    """

    name: str
    train: Split | Stream
    test: Split | Stream
    classes: tuple[str, ...] = ()
    about: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for part in (self.train, self.test):
            if not isinstance(part, Split | Stream):
                raise DataError(
                    f"train and test are Splits or Streams, not {type(part).__name__}",
                    where=self.name,
                )
            if isinstance(part, Split) and int(part.y.max()) >= len(self.classes) > 0:
                raise DataError(
                    f"label {int(part.y.max())} has no name: there are {len(self.classes)} classes",
                    where=self.name,
                )
        shapes = [
            tuple(part.x.shape[1:]) for part in (self.train, self.test) if isinstance(part, Split)
        ]
        if len(set(shapes)) > 1:
            raise DataError(
                f"train samples are {shapes[0]}, test samples {shapes[1]}",
                where=self.name,
                hint="both parts need one shape; ?size=64 resizes the images of a folder",
            )

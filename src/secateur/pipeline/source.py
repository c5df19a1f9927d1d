"""Data, as each stage wants it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from secateur.errors import DataError
from secateur.types.batches import split
from secateur.types.call import batch_size
from secateur.types.dataset import Dataset, Split, Stream
from secateur.types.seed import derive

BATCH = 128
TEST_BATCH = 250

Data = Dataset | Split | Stream | Iterable[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Where the stages read from; a part that is None is not there.

    Attributes:
        train: what scores, recalibration and fine-tuning see.
        test: what accuracy is measured on.
    """

    train: Split | Iterable[Any] | None
    test: Split | Iterable[Any] | None


def source(data: Data | None, test: Split | Iterable[Any] | None = None) -> Source:
    """Both parts of a data set, or an iterable of batches and another one to test on.

    Raises:
        DataError: a part can be read only once.
    """
    train: Any = data
    if isinstance(data, Dataset):
        train, test = data.train, data.test if test is None else test
    for part, name in ((train, "data"), (test, "test")):
        if isinstance(part, Iterator):
            raise DataError(
                "can be read only once, and is read several times",
                where=name,
                hint="a list of batches, a DataLoader or a secateur.data.Dataset",
            )
    return Source(train, test)


def calibration(of: Source, samples: int, seed: int) -> Iterable[Any] | None:
    """Batches that show about `samples` training samples, the same each time.

    Samples in memory are drawn at random, as they may be sorted by class; what a user's code reads
    is taken from its beginning.
    """
    if not isinstance(of.train, Split):
        return None if of.train is None else _First(of.train, samples)
    draw = torch.Generator().manual_seed(derive(seed, "samples"))
    rows = torch.randperm(len(of.train), generator=draw)[:samples]
    return Split(of.train.x[rows], of.train.y[rows]).batches(_size(len(rows)))


def epochs(of: Source) -> Iterable[Any] | None:
    """Batches for training: all samples, in an order that follows torch's random state."""
    if isinstance(of.train, Split):
        return of.train.batches(_size(len(of.train)), shuffle=True)
    return of.train


def judging(of: Source) -> Iterable[Any] | None:
    """Batches for judging."""
    return of.test.batches(TEST_BATCH) if isinstance(of.test, Split) else of.test


def length(data: Iterable[Any] | None) -> int | None:
    """How many batches there are; None where nobody knows."""
    return len(data) if hasattr(data, "__len__") else None  # type: ignore[arg-type]


def _size(samples: int) -> int:
    """A batch size that leaves no single sample at the end, of which a BatchNorm can learn nothing."""
    return next((size for size in range(BATCH, 1, -1) if samples % size != 1), BATCH)


class _First:
    """The first batches of an iterable, until they hold enough samples."""

    def __init__(self, data: Iterable[Any], samples: int) -> None:
        self._data, self._samples = data, samples

    def __iter__(self) -> Iterator[Any]:
        seen = 0
        for batch in self._data:
            yield batch  # whoever reads it checks it, before the next is asked for
            seen += batch_size(split(batch)[0])
            if seen >= self._samples:
                return

"""From arrays as they are stored to a data set as a network wants it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from secateur.data.scaling import Array, Scaling, measured, scaled
from secateur.errors import DataError
from secateur.types.dataset import Dataset, Split
from secateur.types.samples import check_labels

TEST_SHARE = 0.2  # of each class, where the data come without a test part


def labels(y: Array, where: str) -> Tensor:
    """Labels as int64 (N,).

    Raises:
        DataError: not whole numbers from 0, or so large that they can be no classes.
    """
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
        raise DataError(
            f"labels are {y.dtype} of shape {y.shape}",
            where=where,
            hint="one whole number a sample: 0, 1, 2, ...",
        )
    if y.dtype == np.uint64 and y.size and y.max() > np.iinfo(np.int64).max:
        raise DataError(f"label {y.max()} is too large", where=where, hint="count classes from 0")
    ready = torch.from_numpy(y.astype(np.int64))
    check_labels(ready, where)
    if int(ready.max()) > max(len(ready), 255):
        raise DataError(
            f"label {int(ready.max())} among {len(ready)} samples",
            where=where,
            hint="classes are counted 0, 1, 2, ... without large gaps",
        )
    return ready


def held_out(y: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rows of a train and a test part: a fifth of each class, at least one where there are two."""
    generator = torch.Generator().manual_seed(seed)
    train, test = [], []
    for label in y.unique():
        rows = (y == label).nonzero().flatten()
        rows = rows[torch.randperm(len(rows), generator=generator)]
        count = max(round(TEST_SHARE * len(rows)), 1) if len(rows) > 1 else 0
        test.append(rows[:count])
        train.append(rows[count:])
    return torch.cat(train).sort().values, torch.cat(test).sort().values


def dataset(
    name: str,
    train: tuple[Array, Array],
    test: tuple[Array, Array] | None,
    how: Scaling | None,
    *,
    classes: tuple[str, ...] = (),
    about: str = "",
) -> Dataset:
    """A data set from arrays (x, y); without a test part, a seeded fifth is held out.

    Args:
        how: None to measure it on uint8 training pixels, and to use floats as they are.

    Raises:
        DataError: empty, lengths or classes that do not match, NaN, or one class only.
    """
    if test is None:
        x, y = train
        _same_length(x, y, name)
        kept, out = held_out(labels(y, name))
        if not len(out):
            raise DataError("too few samples to hold out a test part", where=name)
        train, test = (x[kept.numpy()], y[kept.numpy()]), (x[out.numpy()], y[out.numpy()])
        about = f"{about} Test part: a seeded fifth of each class.".strip()
    _same_length(*train, where=f"{name}, train part")
    _same_length(*test, where=f"{name}, test part")
    y_train, y_test = labels(train[1], f"{name}, train part"), labels(test[1], f"{name}, test part")
    known = y_train.unique()
    if len(known) < 2:
        raise DataError(
            "all samples are of one class", where=name, hint="accuracy needs two or more"
        )
    strange = y_test[~torch.isin(y_test, known)]
    if len(strange):
        raise DataError(f"class {int(strange[0])} is in the test part only", where=name)
    if how is None and train[0].dtype == np.uint8 and train[0].ndim > 2 and train[0].size:
        how = measured(train[0])
    return Dataset(
        name,
        train=Split(scaled(train[0], how, name), y_train),
        test=Split(scaled(test[0], how, name), y_test),
        classes=classes or tuple(str(i) for i in range(int(known.max()) + 1)),
        about=about,
        mean=how.mean if how else (),
        std=how.std if how else (),
    )


def _same_length(x: Array, y: Array, where: str) -> None:
    if not len(x):
        raise DataError("there are no samples", where=where)
    if len(x) != len(y):
        raise DataError(f"{len(x)} samples but {len(y)} labels", where=where)

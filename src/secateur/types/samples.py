"""What samples and labels must be, checked once at the door."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from secateur.errors import DataError

_WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def check_tensors(x: Any, y: Any, where: str = "") -> None:
    """Samples in memory: float32 (N, ...) and int64 (N,), not empty, finite, labels from 0.

    Raises:
        DataError: any of these does not hold.
    """
    if not isinstance(x, Tensor) or not isinstance(y, Tensor):
        raise DataError("x and y must be tensors", where=where, hint="torch.from_numpy(array)")
    if x.dtype != torch.float32 or x.ndim < 2:
        raise DataError(
            f"x is {x.dtype} of shape {tuple(x.shape)}; float32 (N, ...) is needed", where=where
        )
    check_labels(y, where)
    if y.ndim != 1 or y.dtype != torch.int64:
        raise DataError(
            f"y is {y.dtype} of shape {tuple(y.shape)}; int64 (N,) is needed", where=where
        )
    if len(x) != len(y):
        raise DataError(f"{len(x)} samples but {len(y)} labels", where=where)
    check_finite(x, where)


def check_labels(y: Tensor, where: str = "") -> None:
    """Labels are whole numbers from 0, and there is at least one.

    Raises:
        DataError: they are not.
    """
    if y.dtype not in _WHOLE:
        raise DataError(
            f"labels are {y.dtype}, not whole numbers",
            where=where,
            hint="classes are counted 0, 1, 2, ... as int64",
        )
    if y.numel() == 0:
        raise DataError("there are no samples", where=where)
    if int(y.min()) < 0:
        raise DataError(
            f"label {int(y.min())} is negative", where=where, hint="count classes from 0"
        )


def check_finite(x: Tensor, where: str = "") -> None:
    """No NaN and no infinity in a floating tensor.

    Raises:
        DataError: there is one; names the first sample.
    """
    # the sum tells it without a second tensor of the size of x, save where huge values overflow
    if not x.is_floating_point() or torch.isfinite(x.sum(dtype=torch.float64)):
        return
    bad = ~torch.isfinite(x)
    if bad.any():
        first = int(bad.reshape(len(x), -1).any(dim=1).nonzero()[0])
        raise DataError(
            f"{int(bad.sum())} values are NaN or infinite, the first in sample {first}",
            where=where,
            hint="clean the data first: torch.nan_to_num, or drop the sample",
        )


def check_batch(batch: Any, where: str = "") -> tuple[Any, Tensor]:
    """A user's batch as (x, y), x a tensor or a tuple, list or dict of tensors, y int64.

    Raises:
        DataError: it is something else, empty, not finite, or of unequal lengths.
    """
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise DataError(
            f"a batch is a {type(batch).__name__}, not a pair (x, y)",
            where=where,
            hint="yield images, labels",
        )
    x, y = batch
    inputs = list(_tensors(x))
    if not inputs or not isinstance(y, Tensor):
        raise DataError(
            f"a batch holds {type(x).__name__} and {type(y).__name__}, not tensors",
            where=where,
            hint="torch.as_tensor(array)",
        )
    check_labels(y, where)
    for tensor in inputs:
        if tensor.ndim and len(tensor) != len(y):
            raise DataError(f"{len(tensor)} samples but {len(y)} labels", where=where)
        check_finite(tensor, where)
    return x, y.to(torch.int64)


def _tensors(value: Any) -> Iterable[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping | tuple | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(part)

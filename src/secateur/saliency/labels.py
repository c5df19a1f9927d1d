"""Labels as the numbers of classes, checked at the door."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from secateur.errors import DataError
from secateur.types.batches import Batch


def classes_of(batch: Batch) -> Tensor:
    """Labels, int64 (samples,).

    Raises:
        DataError: there are none, or they are not one whole number from 0 a sample.
    """
    labels: Any = batch.y
    if labels is None:
        raise DataError(
            "has no labels, and classes are compared", where=batch.where, hint="give (x, y)"
        )
    whole = isinstance(labels, Tensor) and not labels.is_floating_point()
    if not whole or labels.dtype is torch.bool or labels.is_complex():
        raise DataError(
            f"labels are no whole numbers but {getattr(labels, 'dtype', type(labels).__name__)}",
            where=batch.where,
            hint="class separation compares classes: number them (of one-hot rows take y.argmax(1));"
            " where there are none, another signal: fair?removal=magnitude",
        )
    if labels.shape != (batch.samples,):
        raise DataError(
            f"labels of shape {tuple(labels.shape)} for {batch.samples} samples",
            where=batch.where,
            hint="one label a sample",
        )
    classes: Tensor = labels.to(torch.int64)
    if bool((classes < 0).any()):
        raise DataError(
            f"a label is {int(classes.min())}",
            where=batch.where,
            hint="number the classes from 0, and leave out samples without a label",
        )
    return classes

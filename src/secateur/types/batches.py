"""Data: an iterable of batches, each checked at the door."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from secateur.errors import DataError
from secateur.types.call import batch_size, tensors, to


class Batch(NamedTuple):
    """One batch, on the device where it is needed."""

    where: str  # "batch 3", for messages
    x: Any  # what the network is called with
    y: Any  # labels; None where the data has none
    samples: int


def split(batch: Any) -> tuple[Any, Any]:
    """A batch as (x, y); y is None where there are no labels.

    A tensor or dict is x alone; a tuple or list is (x,) or (x, y). Two arguments without labels are
    written ((a, b), None).

    Raises:
        DataError: more than two entries, or none.
    """
    if isinstance(batch, Tensor | Mapping):
        return batch, None
    if isinstance(batch, tuple | list) and len(batch) == 1:
        return batch[0], None
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return batch[0], batch[1]
    entries = f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
    raise DataError(
        f"a batch is x or (x, y), not a {type(batch).__name__}{entries}",
        hint="write two arguments as ((a, b), y)",
    )


def batches(data: Iterable[Any], device: torch.device, limit: int | None = None) -> Iterator[Batch]:
    """Every batch of the data, checked and moved; at most `limit` of them.

    Raises:
        DataError: the data is empty, is one tensor, or a batch is empty or not finite.
    """
    if isinstance(data, Tensor | Mapping) or not isinstance(data, Iterable):
        raise DataError(
            f"data is an iterable of batches, not a {type(data).__name__}",
            hint="one batch is [(x, y)], or [x] without labels",
        )
    number = -1
    for number, raw in enumerate(islice(data, limit)):
        where = f"batch {number}"
        try:
            x, y = split(raw)
            samples = batch_size(x)
        except DataError as error:
            raise DataError(error.what, where=where, hint=error.hint) from error
        if samples == 0:
            raise DataError("holds no samples", where=where)
        if not (finite(x) and finite(y)):
            raise DataError("holds NaN or infinity", where=where, hint="clean the data first")
        yield Batch(where, to(x, device=device), to(y, device=device), samples)
    if number < 0:
        raise DataError(
            "the data hold no batch",
            hint="a generator can be read only once; give a list or a DataLoader",
        )


def finite(example: Any) -> bool:
    """Whether every number in every floating-point tensor is finite."""
    return all(
        bool(torch.isfinite(tensor).all())
        for tensor in tensors(example)
        if tensor.is_floating_point()
    )

"""The samples that losses are measured on."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from secateur.errors import DataError
from secateur.types.batches import finite
from secateur.types.call import batch_size, tensors
from secateur.types.loss import Loss, loss_of


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Samples with labels, in memory.

    Attributes:
        x: what the network is called with: a tensor, a tuple or list of arguments, or a dict of
            them; the first dim of every tensor counts the samples.
        y: labels, (N, ...).

    Raises:
        DataError: empty, not finite, of unequal lengths, or without labels.
    """

    x: Any
    y: Tensor

    def __post_init__(self) -> None:
        given: object = self.y  # whatever its type says, it comes from a caller
        if not isinstance(given, Tensor):
            raise DataError(
                f"labels are a {type(given).__name__}, not a tensor",
                where="pool",
                hint="losses need labels: Pool(x, y)",
            )
        samples = batch_size(self.x)
        if samples == 0:
            raise DataError("there are no samples", where="pool")
        for tensor in (*tensors(self.x), self.y):
            if tensor.dim() == 0 or len(tensor) != samples:
                raise DataError(
                    f"a tensor of shape {tuple(tensor.shape)} beside {samples} samples",
                    where="pool",
                )
        if not (finite(self.x) and finite(self.y)):
            raise DataError("holds NaN or infinity", where="pool", hint="clean the data first")

    def __len__(self) -> int:
        return len(self.y)

    def batch(self, rows: Tensor, device: torch.device) -> tuple[Any, Tensor]:
        """The samples of these rows, on a device."""
        return picked(self.x, rows, device), self.y[rows.to(self.y.device)].to(device)


def picked(example: Any, rows: Tensor, device: torch.device) -> Any:
    """An example of some of its samples, containers as they were."""
    if isinstance(example, Tensor):
        return example[rows.to(example.device)].to(device)
    if isinstance(example, Mapping):
        return {key: picked(value, rows, device) for key, value in example.items()}
    if isinstance(example, tuple | list):
        parts = [picked(value, rows, device) for value in example]
        if isinstance(example, list):
            return parts
        return type(example)(*parts) if hasattr(example, "_fields") else tuple(parts)
    return example


def checked_loss(output: Any, y: Tensor, loss: Loss, where: str) -> float:
    """The mean loss of a batch.

    Raises:
        DataError: it cannot be computed, or is not finite.
    """
    value = float(loss_of(output, y, loss, where))
    if not math.isfinite(value):
        raise DataError(f"the loss is {value}", where=where)
    return value


def sample_losses(output: Any, y: Tensor, loss: Loss, where: str) -> Tensor:
    """The loss of every single sample, float64 (N,) on the CPU.

    A loss with an argument `reduction`, as torch's own have, is asked for all of them at once; every
    other one is called for one sample at a time.

    Raises:
        DataError: it cannot be computed, or is not finite.
    """
    values: object = None
    if _reduces(loss):
        try:
            values = loss(output, y, reduction="none")  # type: ignore[call-arg]
        except (RuntimeError, TypeError, ValueError, IndexError):
            values = None  # one by one it says what is wrong
    if not isinstance(values, Tensor) or values.shape != (len(y),):
        rows = torch.arange(len(y)).split(1)
        singles = [
            loss_of(picked(output, row, y.device), y[row.to(y.device)], loss, where) for row in rows
        ]
        values = torch.stack(singles)
    values = values.detach().to("cpu", torch.float64)
    if not bool(torch.isfinite(values).all()):
        raise DataError(f"the loss is {float(values.sum())}", where=where)
    return values


def _reduces(loss: Loss) -> bool:
    """Whether it has an argument `reduction`."""
    try:
        return "reduction" in inspect.signature(loss).parameters
    except (TypeError, ValueError):  # written in C: it does not say
        return False

"""Accuracy, with the interval that its sample allows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from secateur.errors import DataError, ModelError
from secateur.types.batches import Batch, batches
from secateur.types.call import device_of, run
from secateur.types.untouched import untouched

_Z = 1.959963984540054  # the normal quantile of 0.975


@dataclass(frozen=True, slots=True)
class Accuracy:
    """A share of right answers and its 95 % Wilson interval."""

    value: float  # in [0, 1]
    low: float
    high: float
    n: int  # answers given

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.value:.2%} [{self.low:.2%}, {self.high:.2%}] of {self.n:,}"


def accuracy(
    model: nn.Module, data: Iterable[Any], *, progress: Callable[[int], None] | None = None
) -> Accuracy:
    """Share of labels that the largest output names.

    Eval mode, no gradients; the network is untouched.

    Args:
        data: batches (x, y); the network gives (N, classes, ...) for x, y is integer (N, ...).
        progress: called after each batch with the number of batches done.

    Raises:
        DataError: the data is empty, without labels, not finite, or does not fit the network.
        ModelError: the network's outputs are NaN.
    """
    right = answers = 0
    with untouched(model), torch.no_grad():
        for done, batch in enumerate(batches(data, device_of(model)), start=1):
            hits = _hits(run(model, batch.x, batch.where), batch)
            right += int(hits.sum())
            answers += hits.numel()
            if progress is not None:
                progress(done)
    return wilson(right, answers)


def wilson(right: int, n: int) -> Accuracy:
    """The 95 % score interval of a proportion.

        centre = (p + z^2 / 2n) / (1 + z^2 / n)
        half   = z / (1 + z^2 / n) * sqrt(p (1 - p) / n + z^2 / 4n^2)

    Source: Wilson, Probable Inference, J. Am. Stat. Assoc. 1927.
    """
    p, scale = right / n, 1.0 + _Z**2 / n
    centre = (p + _Z**2 / (2 * n)) / scale
    half = _Z / scale * math.sqrt(p * (1.0 - p) / n + _Z**2 / (4 * n**2))
    return Accuracy(p, max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half)), n)


def _hits(output: Any, batch: Batch) -> Tensor:
    """bool, one per label."""
    y = batch.y
    if not isinstance(y, Tensor) or y.is_floating_point() or y.is_complex():
        found = f"{y.dtype}" if isinstance(y, Tensor) else type(y).__name__
        raise DataError(
            f"needs integer labels, found {found}", where=batch.where, hint="batches are (x, y)"
        )
    if not isinstance(output, Tensor) or output.dim() < 2:
        raise DataError(
            "the network does not give one tensor of (N, classes, ...)", where=batch.where
        )
    if output[:, 0].shape != y.shape:
        raise DataError(
            f"outputs of shape {tuple(output.shape)} do not fit labels of {tuple(y.shape)}",
            where=batch.where,
        )
    if bool(output.isnan().any()):
        raise ModelError("gives NaN", where=batch.where, hint="are the weights finite?")
    return output.argmax(1) == y

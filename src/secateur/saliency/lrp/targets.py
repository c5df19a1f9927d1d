"""Which output of the network is explained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from secateur.errors import DataError
from secateur.types.batches import Batch
from secateur.types.outputs import output_tensors


@runtime_checkable
class Target(Protocol):
    """A hashable value, most simply a frozen dataclass."""

    def of(self, logits: Tensor, batch: Batch) -> Tensor:
        """One class for each sample, int64 (N,), for logits (N, classes)."""
        ...


@dataclass(frozen=True, slots=True)
class Predicted:
    """The class that the network finds likeliest: no labels are needed."""

    def of(self, logits: Tensor, batch: Batch) -> Tensor:
        """The largest logit; the first of equal ones."""
        return logits.argmax(1)


@dataclass(frozen=True, slots=True)
class TrueLabel:
    """The class that the data name."""

    def of(self, logits: Tensor, batch: Batch) -> Tensor:
        """The labels.

        Raises:
            DataError: there are none, or they are not one class a sample.
        """
        if batch.y is None:
            raise DataError(
                "has no labels to explain",
                where=batch.where,
                hint="give (x, y), or explain what is predicted: target=Predicted()",
            )
        y: object = batch.y
        whole = isinstance(y, Tensor) and not y.is_floating_point() and not y.is_complex()
        if not (isinstance(y, Tensor) and whole and y.shape == logits.shape[:1]):
            shape = f"{tuple(y.shape)} {y.dtype}" if isinstance(y, Tensor) else type(y).__name__
            raise DataError(
                f"labels are one class a sample, ({len(logits)},) of whole numbers, not {shape}",
                where=batch.where,
            )
        labels = y.long()
        outside = labels[(labels < 0) | (labels >= logits.shape[1])]
        if outside.numel():
            raise DataError(
                f"there is no class {int(outside[0])} among {logits.shape[1]}", where=batch.where
            )
        return labels.to(logits.device)


def explained(returned: object, target: Target, batch: Batch) -> Tensor:
    """The sum over the samples of the logits that are explained; they are the output's first tensor.

    Raises:
        DataError: the network does not return one finite row of logits for each sample.
    """
    output = next(iter(output_tensors(returned)), None)
    if output is None or not output.is_floating_point():
        kind = "no tensor" if output is None else str(output.dtype)
        raise DataError(f"explaining takes logits, not {kind}", where=batch.where)
    if output.dim() != 2 or len(output) != batch.samples or output.shape[1] == 0:
        raise DataError(
            f"explaining takes logits of shape ({batch.samples}, classes),"
            f" the network returns {tuple(output.shape)}",
            where=batch.where,
            hint="wrap the network in one that returns one row of class scores for each sample",
        )
    if not bool(torch.isfinite(output.detach()).all()):
        raise DataError("the network's output holds NaN or infinity", where=batch.where)
    classes = target.of(output.detach(), batch)
    return output.gather(1, classes[:, None]).sum()

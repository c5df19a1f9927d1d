"""Losses, checked at the door."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from secateur.errors import DataError

Loss = Callable[[Any, Any], Tensor]
"""(output of the network, labels) → the mean over the batch's samples: `F.cross_entropy`."""


def loss_of(output: Any, y: Any, loss: Loss, where: str) -> Tensor:
    """The loss of one batch, checked.

    Raises:
        DataError: it cannot be computed, or is no single number.
    """
    try:
        value = loss(output, y)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise DataError(
            f"the loss cannot be computed: {error}",
            where=where,
            hint="is the loss made for these labels and outputs?",
        ) from error
    found: object = value  # whatever its type says, the loss is the caller's own
    if not isinstance(found, Tensor) or found.numel() != 1:
        raise DataError(
            "the loss is not one number", where=where, hint="it must be the mean over the samples"
        )
    return value.reshape(())

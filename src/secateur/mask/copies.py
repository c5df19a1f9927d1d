"""Copies of a network that hold other tensors in place of its own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from secateur.errors import ModelError
from secateur.mask.check import named_tensors


def copy_with(model: nn.Module, change: Callable[[str, Tensor], Tensor]) -> nn.Module:
    """A copy that holds `change(name, tensor)` wherever the model holds the tensor.

    Registered once or several times, or in a list beside: shared tensors stay shared. What `change`
    returns is not copied again.

    Raises:
        ModelError: the model cannot be copied.
    """
    tensors = named_tensors(model)
    return copied(model, {id(t): change(name, t) for name, t in tensors.items()})


def copied(model: nn.Module, instead: dict[int, Any] | None = None) -> nn.Module:
    """A deep copy.

    Args:
        instead: the id of what the model holds → what the copy holds in its place.

    Raises:
        ModelError: the model cannot be copied.
    """
    try:
        return copy.deepcopy(model, instead)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ModelError(f"the network cannot be copied: {error}") from error

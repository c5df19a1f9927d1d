"""Examples: what a network is called with, in one of three forms.

One tensor is the only argument; a tuple or list holds positional arguments; a dict holds keyword
arguments. Arguments may nest further tuples, lists and dicts of tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from secateur.errors import DataError, SecateurError


def call(model: nn.Module, example: Any) -> Any:
    """The network's output on an example of any of the three forms."""
    if isinstance(example, Mapping):
        return model(**example)
    if isinstance(example, tuple | list):
        return model(*example)
    return model(example)


def run(model: nn.Module, example: Any, where: str) -> Any:
    """As `call`, but what the network raises becomes a `DataError` that names the batch.

    Raises:
        DataError: the network does not run on this input.
    """
    try:
        return call(model, example)
    except (torch.OutOfMemoryError, SecateurError):
        raise
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors(example)) or "none"
        raise DataError(
            f"the network does not run on this input (tensors of shape {shapes}): {error}",
            where=where,
            hint="each batch is x or (x, y); write two arguments as ((a, b), y)",
        ) from error


def tensors(example: Any) -> Iterator[Tensor]:
    """Every tensor in an example or output, in order."""
    if isinstance(example, Tensor):
        yield example
    elif isinstance(example, Mapping):
        for value in example.values():
            yield from tensors(value)
    elif isinstance(example, tuple | list):
        for value in example:
            yield from tensors(value)


def batch_size(example: Any) -> int:
    """How many samples an example holds: the first dim of its first tensor.

    Raises:
        DataError: there is no tensor with a dim.
    """
    first = next(tensors(example), None)
    if first is None or first.dim() == 0:
        raise DataError(
            f"holds no batch of samples: {type(example).__name__}",
            hint="the first dim of the first tensor counts the samples",
        )
    return first.shape[0]


def of_size(example: Any, wanted: int) -> Any:
    """An example of `wanted` samples: those of the given one, again and again.

    Tensors whose first dim does not count the samples stay as they are.

    Raises:
        DataError: there is no tensor with a dim, or no sample to repeat.
    """
    size = batch_size(example)
    if wanted and not size:
        raise DataError("holds no sample", hint="an example of one sample at least")

    def resized(tensor: Tensor) -> Tensor:
        if tensor.dim() == 0 or tensor.shape[0] != size:
            return tensor
        return tensor[torch.arange(wanted, device=tensor.device) % size]

    return mapped(example, resized)


def mapped(example: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """An example with every tensor changed; containers are built anew, other values stay."""
    if isinstance(example, Tensor):
        return change(example)
    if isinstance(example, Mapping):
        return {key: mapped(value, change) for key, value in example.items()}
    if isinstance(example, tuple | list):
        parts = [mapped(value, change) for value in example]
        if isinstance(example, list):
            return parts
        return type(example)(*parts) if hasattr(example, "_fields") else tuple(parts)
    return example


def to(
    example: Any,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Any:
    """An example with its tensors moved; `dtype` concerns floating-point tensors only."""

    def move(tensor: Tensor) -> Tensor:
        wanted = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
        return tensor.to(device=tensor.device if device is None else device, dtype=wanted)

    return mapped(example, move)


def cloned(example: Any) -> Any:
    """An example with tensors of its own, for networks that write into their input."""
    return mapped(example, lambda tensor: tensor.detach().clone())


def device_of(model: nn.Module) -> torch.device:
    """Where the network's first parameter or buffer lives; the CPU where it has none."""
    for tensor in chain(model.parameters(), model.buffers()):
        return tensor.device
    return torch.device("cpu")

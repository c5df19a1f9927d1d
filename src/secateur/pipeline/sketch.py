"""What an example looked like, in JSON: enough to draw another one where there are no data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from secateur import archive
from secateur.types.seed import derive

_PLAIN = bool | int | float | str | None


def sketch(example: Any) -> Mapping[str, Any] | None:
    """Shapes and dtypes, and the range of whole numbers; None where something else is in it."""
    if isinstance(example, Tensor):
        return {"tensor": _tensor(example)}
    if isinstance(example, Mapping):
        pairs = [[key, sketch(value)] for key, value in example.items()]
        known = all(isinstance(key, str) and value is not None for key, value in pairs)
        return {"named": pairs} if known else None
    if isinstance(example, tuple | list):
        items = [sketch(value) for value in example]
        kind = "list" if isinstance(example, list) else "tuple"
        return None if None in items else {kind: items}
    return {"value": example} if isinstance(example, _PLAIN) else None


def redrawn(sketched: Mapping[str, Any], seed: int, device: torch.device, where: str) -> Any:
    """Random inputs of these shapes: numbers are standard normal, whole numbers in their range.

    Raises:
        FileError: it is no sketch.
    """
    draw = torch.Generator().manual_seed(derive(seed, "example"))
    with archive.malformed(where, "scores"):
        return _drawn(sketched, draw, device)


def _tensor(tensor: Tensor) -> dict[str, Any]:
    said = {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
    if tensor.is_floating_point() or tensor.is_complex() or not tensor.numel():
        return said
    # a token beyond those that were seen may be one that the network does not know
    return said | {"range": [int(tensor.min()), int(tensor.max())]}


def _drawn(sketched: Mapping[str, Any], draw: torch.Generator, device: torch.device) -> Any:
    ((kind, said),) = sketched.items()
    if kind == "tensor":
        low, high = said.get("range", (None, None))
        drawn = (
            torch.randn(said["shape"], generator=draw)
            if low is None
            else torch.randint(low, high + 1, said["shape"], generator=draw)
        )
        return drawn.to(device, getattr(torch, said["dtype"]))
    if kind == "named":
        return {key: _drawn(value, draw, device) for key, value in said}
    if kind == "value":
        return said
    items = [_drawn(value, draw, device) for value in said]
    return items if kind == "list" else tuple(items)

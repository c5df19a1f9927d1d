"""Numbers as planes of bytes: the first bytes of all, then the second, and so on.

A float is turned left by one bit before, so that the last of its bytes in memory is the exponent alone
(the upper eight bits of it, in float64) and the sign stands with the lowest bits, which are noise as well.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Bytes = NDArray[np.uint8]

DTYPES = (
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float64,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.complex64,
    torch.complex128,
)
"""What a bundle can hold; their places here are their numbers in the file."""

_TURNED = {2: "<u2", 4: "<u4", 8: "<u8"}


def split(values: Tensor) -> Bytes:
    """The planes (bytes of one, n) of values (n,), from the lowest bytes to the highest."""
    size = values.element_size()
    flat = values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    if _is_turned(values.dtype):
        whole = flat.view(_TURNED[size])
        flat = (whole << 1 | whole >> 8 * size - 1).view(np.uint8)
    return np.ascontiguousarray(flat.reshape(-1, size).T)


def join(planes: Bytes, dtype: torch.dtype) -> Tensor:
    """Inverse of `split`."""
    size, count = planes.shape
    table = np.empty((count, size), np.uint8)
    for place, plane in enumerate(planes):
        table[:, place] = plane
    flat = table.reshape(-1)
    if _is_turned(dtype):
        whole = flat.view(_TURNED[size])
        flat = (whole >> 1 | whole << 8 * size - 1).view(np.uint8)
    if dtype == torch.bool and bool((flat > 1).any()):
        raise ValueError("a truth value is neither 0 nor 1")
    return torch.from_numpy(flat).view(dtype)


def _is_turned(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point and dtype.itemsize in _TURNED

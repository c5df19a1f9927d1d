"""Whole numbers behind float weights: the codes and scales of a network that was quantised."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LARGEST = 127
"""The largest code: that of eight bits."""

_FEW = 8  # values that are looked at before all others

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Values (n,) as code times scale.

    Attributes:
        symbols: uint8 (n,): code + largest; 2 * largest + 1 is a zero with a minus sign, which rounding
            and masking leave behind.
        scales: float32 (1,), or one for each channel.
        largest: of all |codes|, from 1 to 127.
    """

    symbols: NDArray[np.uint8]
    scales: NDArray[np.float32]
    largest: int

    def values(self, channel: Ints | None, dtype: torch.dtype) -> Tensor:
        """The values (n,); `channel` (n,) says which scale each one has, where there are several."""
        found = self.symbols.astype(np.float32)
        found -= self.largest
        with np.errstate(over="ignore"):  # scales that nobody wrote
            found *= self.scales[0] if channel is None else self.scales[channel]
        found[self.symbols > 2 * self.largest] = -0.0
        return torch.from_numpy(found).to(dtype)


def find(values: Tensor, counts: Ints) -> Grid | None:
    """The grid that takes least to write: with one scale for all float values (n,), or one for each
    channel; None where they lie on neither, or its scales cost more than its codes save.

    Args:
        counts: how many values each channel has, in order.
    """
    few = values[:: -(-len(values) // _FEW)] if len(values) else values
    whole = _finite(few) and _may_lie(few.float().numpy())
    for sizes in (np.array([len(values)]), counts) if whole else (counts,):
        if 32 * sizes.size + 7 * len(values) <= 20 * len(values):
            grid = grid_of(values, sizes)
            if grid is not None:
                return grid
    return None


def grid_of(values: Tensor, counts: Ints) -> Grid | None:
    """The coarsest grid that float values (n,) lie on, bit for bit; None where there is none.

    Args:
        counts: how many values each scale is for, in order.
    """
    if not _finite(values):
        return None
    values = values.contiguous()
    plain = values.float().numpy()
    first = int(counts[0]) if counts.size else 0
    if not plain.any() or not _may_lie(plain[:first][:_FEW]):
        return None
    grid = _on(plain, counts)
    if grid is None:
        return None
    channel = channels(counts) if grid.scales.size > 1 else None
    return grid if _same(grid.values(channel, values.dtype), values) else None


def _finite(values: Tensor) -> bool:
    return values.is_floating_point() and len(values) > 0 and bool(values.float().isfinite().all())


def channels(counts: Ints) -> Ints:
    """Which channel each value is of, (n,)."""
    return np.repeat(np.arange(counts.size), counts)


def _may_lie(few: NDArray[np.float32]) -> bool:
    """Whether finite numbers are multiples, by at most 127, of one; if not, nor is what they belong to."""
    ratios = [number.as_integer_ratio() for number in few.tolist() if number]
    most = max((below for _, below in ratios), default=1)  # all are powers of two
    whole = [above * (most // below) for above, below in ratios]
    return max(map(abs, whole), default=0) <= LARGEST * math.gcd(*whole)


def _on(plain: NDArray[np.float32], sizes: Ints) -> Grid | None:
    """The greatest common divisor of every channel, if no value is more than 127 times as large."""
    some = plain != 0
    channel = channels(sizes)[some]
    size = np.abs(plain[some])
    begins = np.flatnonzero(np.diff(channel, prepend=-1))
    least, most = np.minimum.reduceat(size, begins), np.maximum.reduceat(size, begins)
    if (most / LARGEST > least).any():
        return None
    bits = size.view(np.uint32)
    exponent = (bits >> 23).astype(np.int64)
    whole = (bits & 0x7FFFFF).astype(np.int64) | np.where(exponent > 0, 1 << 23, 0)
    exponent = np.maximum(exponent, 1)
    lowest = np.minimum.reduceat(exponent, begins)
    counts = np.diff(np.append(begins, size.size))
    whole <<= exponent - np.repeat(lowest, counts)
    step = np.gcd.reduceat(whole, begins)
    codes = whole // np.repeat(step, counts)
    largest = int(codes.max())
    if largest > LARGEST:
        return None
    symbols = np.full(plain.size, largest, np.uint8)
    symbols[some] = largest + np.where(plain[some] < 0, -codes, codes)
    symbols[np.signbit(plain) & ~some] = 2 * largest + 1
    scales = np.zeros(sizes.size, np.float32)
    scales[channel[begins]] = np.ldexp(step.astype(np.float64), lowest - 150)
    return Grid(symbols, scales, largest)


def _same(left: Tensor, right: Tensor) -> bool:
    return torch.equal(left.view(torch.uint8), right.view(torch.uint8))

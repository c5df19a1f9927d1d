"""The k highest of every row, in their order."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def highest(value: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k highest of each row, from the highest down: where they are in the flat tensor, and what.

    On the CPU rows are not sorted, or partitioned, whole: the least of the k highest *blocks* of a row is
    a bound that at least k of its values reach, and few more do; only those are sorted.

    Returns:
        int64 (rows, k), and of the type of `value` (rows, k).
    """
    rows, n = value.shape
    if value.device.type == "cpu" and n >= _SHORT:
        found = _of_blocks(value.numpy(), k)
        if found is not None:
            return torch.from_numpy(found[0]), torch.from_numpy(found[1])
    first = value.topk(k, dim=1)
    return first.indices + torch.arange(0, rows * n, n, device=value.device)[:, None], first.values


def _of_blocks(value: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The same of numpy arrays; None where values are not finite."""
    rows, n = value.shape
    bound = _bound(value, k)
    reached = np.flatnonzero(value >= bound)
    starts = reached.searchsorted(np.arange(0, rows * n + 1, n))
    counts = np.diff(starts)
    if counts.min() < k or not np.isfinite(bound).all():
        return None
    width = int(counts.max())
    padding = np.arange(0, rows * width, width)
    at = np.arange(len(reached))
    at += np.repeat(padding - starts[:-1], counts)
    lowered = np.full(rows * width, np.inf, value.dtype)
    lowered[at] = -value.reshape(-1)[reached]
    order = lowered.reshape(rows, width).argsort(axis=1)[:, :k]
    order += padding[:, None]
    place = np.empty(rows * width, np.int64)
    place[at] = reached
    return place[order], -lowered[order]


def _bound(value: np.ndarray, k: int) -> np.ndarray:
    """(rows, 1): k values of a row are at least so high, since so are the maxima of k blocks of it."""
    top = value
    while k <= _MANY and (half := top.shape[1] // 2) >= _BLOCKS * k:
        top = np.maximum(top[:, :half], top[:, half : 2 * half])
    least = top.shape[1] - k
    return np.partition(top, least, axis=1)[:, least, None]


_SHORT = 32  # shorter rows are sooner sorted than prepared
_MANY = 160  # numpy sorts 256 pairs without branches; of so many, blocks would leave more than that
_BLOCKS = 1.5  # times k: fewer leave more to be sorted, more are slower to find

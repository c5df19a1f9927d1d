"""How many units of a group may stay, and how many may leave."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def least_kept(size: int, floor: int | float) -> int:
    """Units that stay at least; 0.1 of 30 is 3, whatever binary fractions say."""
    if isinstance(floor, float):
        return max(1, math.ceil(floor * size - 1e-9))
    return min(floor, size)


def depths(size: int, floor: int | float, round_to: int, most: int, least: int = 1) -> Tensor:
    """How many units may leave, int64 (d,), ascending from 1; empty where none may.

    Args:
        most: no more than this leave, whatever `floor` allows.
        least: no fewer than this stay, whatever `floor` allows.
    """
    largest = max(min(size - max(least_kept(size, floor), least), most), 0)
    left = torch.arange(1, largest + 1)
    return left[(size - left) % round_to == 0]

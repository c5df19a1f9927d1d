"""Rounding to float32 that loses no difference."""

from __future__ import annotations

import torch
from torch import Tensor


def rounded(values: Tensor, order: Tensor) -> Tensor:
    """`values` as float32, in exactly the order of `order`.

    Plain rounding makes equal what was not: a tenth of two neighbouring float32 numbers is often
    the same float32 number. Here a value that would fall onto the one below is moved up to the next
    float32 number, so that whoever sorts the result gets what sorting `order` gives, ties included.

    Args:
        values: float64 (n,), never falling where `order` rises.
        order: (n,).
    """
    if not len(values):
        return values.float()
    distinct, level = order.unique(return_inverse=True)
    lowest = torch.full((len(distinct),), torch.inf, dtype=torch.float64)
    lowest.scatter_reduce_(0, level, values, "amin")
    steps = torch.arange(len(distinct))
    # the least that is no less than wanted, and above the one before by 1
    places = (_place(lowest.float()) - steps).cummax(0).values + steps
    return _number(places)[level]


def _place(numbers: Tensor) -> Tensor:
    """Where float32 numbers stand among all float32 numbers: int64, 0 for zero, neighbours by 1."""
    bits = numbers.view(torch.int32).long()
    return torch.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def _number(places: Tensor) -> Tensor:
    bits = torch.where(places < 0, places.abs() | 0x80000000, places)
    return torch.where(bits >= 1 << 31, bits - (1 << 32), bits).int().view(torch.float32)

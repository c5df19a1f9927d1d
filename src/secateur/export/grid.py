"""Weights that lie on the grid of an integer code: found from the weights themselves.

A quantised row is code times step with at most 7 and 16 binary digits (`learn/quantize.py`), which
float32 holds exactly. So the step is the greatest common divisor of the row, in whole multiples of
its smallest binary digit, and code times step gives the weights back bit for bit. Trained float
weights have no such step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

LARGEST = 127
"""The largest code of eight bits."""


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Weights as whole numbers times a step for each index of the first dim.

    Attributes:
        codes: int8, of the weights' shape, from -127 to 127.
        steps: float32 (rows,), above 0.
    """

    codes: Tensor
    steps: Tensor

    @property
    def bits(self) -> int:
        """4 where every code lies from -7 to 7, else 8."""
        return 4 if self.codes.numel() == 0 or int(self.codes.abs().max()) <= 7 else 8


def grids(model: nn.Module) -> dict[tuple[str, ...], Grid]:
    """All names of a parameter → its grid, for every float32 parameter of two dims or more that has one.

    The name that plans use is the first; a tied parameter has several.
    """
    names: dict[Tensor, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    found = ((tuple(called), grid(each.detach())) for each, called in names.items())
    return {called: one for called, one in found if one is not None}


def grid(weights: Tensor) -> Grid | None:
    """The codes and steps of weights, (rows, ...); None where a row has no step, or too little in it.

    One weight that is not zero is always one step; so there must be more than two a row on average,
    or anything would count as quantised.
    """
    if weights.dtype != torch.float32 or weights.dim() < 2 or not weights.numel():
        return None
    rows = weights.flatten(1).numpy()
    size = np.abs(rows)
    largest = size.max(1)
    smallest = np.where(size > 0, size, np.inf).min(1)
    there = largest > 0
    if np.count_nonzero(size) <= 2 * len(rows) or not np.isfinite(largest).all():
        return None
    if (largest[there] > LARGEST * smallest[there]).any():
        return None
    # In units of the last binary digit of the smallest weight: below 2^24 * 128, so int64 holds it.
    _, exponent = np.frexp(np.where(there, smallest, 1.0))
    digits = np.ldexp(rows.astype(np.float64), (24 - exponent)[:, None]).astype(np.int64)
    divisor = np.gcd.reduce(digits, axis=1)
    divisor[~there] = 1
    codes = digits // divisor[:, None]
    if (np.abs(codes) > LARGEST).any():
        return None
    steps = np.where(there, np.ldexp(divisor.astype(np.float64), exponent - 24), 1.0)
    one = Grid(
        torch.from_numpy(codes.astype(np.int8)).view(weights.shape),
        torch.from_numpy(steps.astype(np.float32)),
    )
    again = one.codes.float() * one.steps.view(-1, *[1] * (weights.dim() - 1))
    return one if torch.equal(again, weights) else None

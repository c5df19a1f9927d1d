"""Weights that lie on the grid of an integer code: found from the weights themselves.

A quantised row is code times step with at most 7 and 16 binary digits (`learn/quantize.py`), which
float32 holds exactly: `types/grid.py` finds both. Trained float weights have no such step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from secateur.types.grid import grid_of


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
    rows = len(weights)
    if int(weights.count_nonzero()) <= 2 * rows:
        return None
    found = grid_of(weights.flatten(), np.full(rows, weights.numel() // rows))
    if found is None:
        return None
    codes = found.symbols.astype(np.int16) - found.largest
    codes[found.symbols > 2 * found.largest] = 0  # a zero with a minus sign
    steps = np.where(found.scales > 0, found.scales, np.float32(1))  # a row of zeros
    return Grid(
        torch.from_numpy(codes.astype(np.int8)).view(weights.shape),
        torch.from_numpy(np.broadcast_to(steps, rows).copy()),
    )

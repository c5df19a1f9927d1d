"""How long one layer takes at any width, from a few that were measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Point = tuple[int, int]
"""(outs, ins): the widths of a layer."""

_STEPS = (1, 2, 4, 8, 16)  # registers and cache lines are powers of two
_PARTS = (1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0)


def axis(size: int) -> tuple[int, ...]:
    """Widths that are measured, all but the last of them multiples of the largest step, ascending.

    Between them time is taken to be a straight line.
    """
    step = max([m for m in _STEPS if 4 * m <= size], default=1)
    widths = {min(-(-int(size * part) // step) * step, size) for part in _PARTS}
    return tuple(sorted(widths - {0}))


def points(outs: int, ins: int) -> list[Point]:
    """Where a layer of these widths is measured."""
    return [(o, i) for o in axis(outs) for i in axis(ins)]


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """Seconds of one layer by its widths.

    Attributes:
        outs, ins: of the dense layer.
        measured: seconds at `points(outs, ins)`.
    """

    outs: int
    ins: int
    measured: Mapping[Point, float]
    _grid: NDArray[np.float64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        rows = [[self.measured[o, i] for i in axis(self.ins)] for o in axis(self.outs)]
        object.__setattr__(self, "_grid", np.array(rows))

    def seconds(self, outs: float, ins: float) -> float:
        """Between the nearest measured widths as a straight line; below the smallest as there."""
        by_outs = [np.interp(ins, axis(self.ins), row) for row in self._grid]
        return float(np.interp(outs, axis(self.outs), by_outs))

    def plane(self) -> NDArray[np.float64]:
        """(4,), none negative: a + b outs + c ins + d outs ins is nearest to what was measured."""
        where = np.array([(o, i) for o in axis(self.outs) for i in axis(self.ins)], dtype=float)
        terms = np.stack([where[:, 0] ** 0, where[:, 0], where[:, 1], where.prod(1)], axis=1)
        if len(axis(self.ins)) == 1:  # nothing tells ins apart: it is all by outs
            terms[:, 2:] = 0.0
        return _not_negative(terms, self._grid.reshape(-1))


def _not_negative(terms: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least squares over coefficients none of which is negative: of four, all subsets are tried."""
    best, least = np.zeros(4), float("inf")
    used = [column for column in range(4) if terms[:, column].any()]
    for count in range(1, len(used) + 1):
        for some in combinations(used, count):
            found = np.linalg.lstsq(terms[:, some], wanted, rcond=None)[0]
            off = float(((terms[:, some] @ found - wanted) ** 2).sum())
            if (found >= 0.0).all() and off < least:
                best, least = np.zeros(4), off
                best[list(some)] = found
    return best

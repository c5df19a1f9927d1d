"""How long one layer takes at any width, from a few that were measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Point = tuple[int, int]
"""(outs, ins): the widths of a layer."""

MULTIPLES = (1, 2, 4, 8, 16, 32)
"""Of what widths may be multiples: registers and cache lines are powers of two."""

_TOLERANCE = 1.05  # times per unit that are nearer than this are the same
_PARTS = (1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0)


def axis(size: int) -> tuple[int, ...]:
    """Widths between which time is taken to be a straight line: multiples of the largest step."""
    step = max([m for m in MULTIPLES[:5] if 4 * m <= size], default=1)
    widths = {min(-(-int(size * part) // step) * step, size) for part in _PARTS}
    return tuple(sorted(widths - {0}))


def stairs(size: int) -> dict[int, int]:
    """Multiple → a width that is a multiple of it, but not of its double; all near each other."""
    found = {}
    for multiple in MULTIPLES:
        if 2 * multiple <= size:
            odd = 2 * round((0.625 * size / multiple - 1) / 2) + 1
            found[multiple] = max(odd, 1) * multiple
    return {multiple: width for multiple, width in found.items() if width <= size}


def points(outs: int, ins: int) -> list[Point]:
    """Where a layer of these widths is measured."""
    grid = [(o, i) for o in axis(outs) for i in axis(ins)]
    steps = [(o, ins) for o in stairs(outs).values()] + [(outs, i) for i in stairs(ins).values()]
    return sorted({*grid, *steps})


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
        # more channels never take less time: what says so is noise
        grid = np.maximum.accumulate(np.maximum.accumulate(np.array(rows), axis=0), axis=1)
        object.__setattr__(self, "_grid", grid)

    def seconds(self, outs: float, ins: float) -> float:
        """Between the nearest measured widths as a straight line; below the smallest as there."""
        by_outs = [np.interp(ins, axis(self.ins), row) for row in self._grid]
        return float(np.interp(outs, axis(self.outs), by_outs))

    def per_unit(self, of_outs: bool) -> dict[int, float]:
        """Multiple → seconds for each channel, at a width that is a multiple of no more than it."""
        if of_outs:
            return {m: self.measured[w, self.ins] / w for m, w in stairs(self.outs).items()}
        return {m: self.measured[self.outs, w] / w for m, w in stairs(self.ins).items()}

    def plane(self) -> NDArray[np.float64]:
        """(4,), none negative: a + b outs + c ins + d outs ins is nearest to what was measured."""
        where = np.array([(o, i) for o in axis(self.outs) for i in axis(self.ins)], dtype=float)
        terms = np.stack([where[:, 0] ** 0, where[:, 0], where[:, 1], where.prod(1)], axis=1)
        if len(axis(self.ins)) == 1:  # nothing tells ins apart: it is all by outs
            terms[:, 2:] = 0.0
        return _not_negative(terms, self._grid.reshape(-1))


def best_multiple(per_unit: Mapping[int, float]) -> int:
    """The smallest multiple at which a channel takes hardly longer than at the best one; 1 for none."""
    if not per_unit:
        return 1
    least = min(per_unit.values())
    return min(m for m, seconds in per_unit.items() if seconds <= _TOLERANCE * least)


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

"""The choice of widths as a mixed-integer linear program, which HiGHS solves.

One binary column says for each level of each group whether it is chosen. A product of a level with a
length x in [a, b] is a column u of its own, and exact where levels are whole:

    sum_l u_l = x,   a z_l <= u_l <= b z_l     =>     u_l = z_l x

so that products of two lengths, and of more, are linear in columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from secateur.allocate.forms import Product, Sum
from secateur.allocate.levels import Levels
from secateur.extras import missing


@dataclass(frozen=True, slots=True)
class Solution:
    """What the solver found.

    Attributes:
        chosen: group name → level.
        bound: no choice of levels keeps more saliency than this.
    """

    chosen: Mapping[str, int]
    bound: float


@dataclass(frozen=True, slots=True)
class Limit:
    """The sum of some products may be at most `most`."""

    products: Sequence[Product]
    most: float


@dataclass(frozen=True, slots=True, eq=False)
class _Expression:
    """constant + sum of coefficients x columns; it is never negative."""

    constant: float
    terms: dict[int, float]


@dataclass(frozen=True, slots=True, eq=False)
class _Program:
    """Columns and rows, as they come."""

    levels: Mapping[str, Levels]
    first: dict[str, int] = field(default_factory=dict)  # group → its first column
    upper: list[float] = field(default_factory=list)
    value: list[float] = field(default_factory=list)  # a column's worth
    owner: list[tuple[str, int]] = field(default_factory=list)  # the level without which it is 0
    rows: list[tuple[dict[int, float], float, float]] = field(default_factory=list)
    products: dict[tuple[str, int], list[int]] = field(default_factory=dict)
    keep: list[_Expression] = field(default_factory=list)  # so that no id is given twice

    def column(self, owner: tuple[str, int], upper: float, value: float = 0.0) -> int:
        """A new column, from 0 on."""
        self.upper.append(upper)
        self.value.append(value)
        self.owner.append(owner)
        return len(self.upper) - 1

    def length(self, length: Sum) -> _Expression:
        """A length in terms of levels."""
        terms: dict[int, float] = {}
        for name, stays in length.parts.items():
            terms |= {self.first[name] + level: float(n) for level, n in enumerate(stays) if n}
        return _Expression(length.constant, terms)

    def times(self, length: Sum, other: _Expression) -> _Expression:
        """The product of a length and an expression."""
        found = _Expression(length.constant * other.constant, {})
        for column, by in other.terms.items():
            _add(found.terms, column, length.constant * by)
        for name, stays in length.parts.items():
            for level, columns in enumerate(self._levelled(name, other)):
                for column, by in columns.items():
                    _add(found.terms, column, float(stays[level]) * by)
        return found

    def _levelled(self, name: str, other: _Expression) -> list[dict[int, float]]:
        """For every level of a group: that level's column times an expression."""
        first, count = self.first[name], len(self.levels[name])
        found: list[dict[int, float]] = [{} for _ in range(count)]
        rest = {}
        for column, by in other.terms.items():
            group, level = self.owner[column]
            if group == name:  # levels exclude each other: nothing is left of the others
                _add(found[level], column, by)
            else:
                rest[column] = by
        for level in range(count):
            _add(found[level], first + level, other.constant)
        if rest:
            for level, column in enumerate(self._product(name, other, rest)):
                _add(found[level], column, 1.0)
        return found

    def _product(self, name: str, other: _Expression, rest: dict[int, float]) -> list[int]:
        """The columns u_l = z_l x, where x is the rest of the expression."""
        if (name, id(other)) not in self.products:
            self.keep.append(other)
            low, high = self._bounds(rest)
            columns = [self.column((name, level), high) for level in range(len(self.levels[name]))]
            for level, column in enumerate(columns):
                chosen = self.first[name] + level
                self.rows.append(({column: 1.0, chosen: -high}, -math.inf, 0.0))
                if low > 0.0:
                    self.rows.append(({column: 1.0, chosen: -low}, 0.0, math.inf))
            self.rows.append((dict.fromkeys(columns, 1.0) | _negative(rest), 0.0, 0.0))
            self.products[name, id(other)] = columns
        return self.products[name, id(other)]

    def _bounds(self, terms: Mapping[int, float]) -> tuple[float, float]:
        """Between what a sum can be: of the levels of a group one is chosen."""
        lows: dict[str, list[float]] = {}
        highs: dict[str, list[float]] = {}
        for column, by in terms.items():
            group, level = self.owner[column]
            count = len(self.levels[group])
            highs.setdefault(group, [0.0] * count)[level] += by * self.upper[column]
            if column == self.first[group] + level:
                lows.setdefault(group, [0.0] * count)[level] += by
        return sum(map(min, lows.values())), sum(map(max, highs.values()))


def _add(terms: dict[int, float], column: int, by: float) -> None:
    if by:
        terms[column] = terms.get(column, 0.0) + by


def _negative(terms: Mapping[int, float]) -> dict[int, float]:
    return {column: -by for column, by in terms.items()}


def solve(
    levels: Mapping[str, Levels],
    limits: Sequence[Limit],
    start: Mapping[str, int],
    *,
    gap: float,
    nodes: int,
) -> Solution:
    """The levels that keep most saliency within the limits.

    Equal inputs give equal answers: what is bounded is the number of nodes, not the time.

    Args:
        start: levels within the limits; the answer keeps at least as much.
        gap: stop when the bound is nearer than this fraction.
        nodes: of branch and bound, at most.

    Raises:
        MissingExtraError: the solver is not installed.
    """
    program = _Program(levels)
    scale = sum(float(one.saliency.abs().max()) for one in levels.values()) or 1.0
    for name, one in levels.items():
        program.first[name] = len(program.upper)
        columns = [program.column((name, i), 1.0, float(s)) for i, s in enumerate(one.saliency)]
        program.rows.append((dict.fromkeys(columns, 1.0), 1.0, 1.0))
    binary = len(program.upper)
    lengths: dict[int, _Expression] = {}  # by the identity of a Sum
    for limit in limits:
        row, constant = _row(program, limit, lengths)
        program.rows.append(
            (
                {column: by / limit.most for column, by in row.items()},
                -math.inf,
                1.0 - constant / limit.most,
            )
        )
    return _solved(program, binary, scale, start, gap, nodes)


def _row(
    program: _Program, limit: Limit, lengths: dict[int, _Expression]
) -> tuple[dict[int, float], float]:
    """The sum of a limit's products: coefficients of columns, and what is constant."""
    row: dict[int, float] = {}
    constant = 0.0
    for product in limit.products:
        whole = [factor for factor in product.factors if factor.parts]
        times = product.times * math.prod(f.constant for f in product.factors if not f.parts)
        # what many groups add to is multiplied by what few do: fewer columns
        whole.sort(key=lambda factor: -len(factor.parts))
        if not times or not whole:
            constant += times if not whole else 0.0
            continue
        found = lengths.setdefault(id(whole[0]), program.length(whole[0]))
        for factor in whole[1:]:
            found = program.times(factor, found)
        constant += times * found.constant
        for column, by in found.terms.items():
            _add(row, column, times * by)
    return row, constant


def _solved(
    program: _Program,
    binary: int,
    scale: float,
    start: Mapping[str, int],
    gap: float,
    nodes: int,
) -> Solution:
    try:
        import highspy
    except ImportError as error:
        raise missing("highspy", "solver", error) from error
    highs = highspy.Highs()
    for option, value in (
        ("output_flag", False),
        ("threads", 1),
        ("random_seed", 0),
        ("mip_rel_gap", gap),
        ("mip_max_nodes", nodes),
    ):
        highs.setOptionValue(option, value)
    highs.passModel(_model(highspy, program, binary, scale))
    highs.setSolution(_started(highspy, program, start))
    highs.run()
    columns = highs.getSolution().col_value
    if not len(columns):  # nothing fits: only where limits are not quite what they stand for
        most = sum(float(one.saliency.max()) for one in program.levels.values())
        return Solution(dict(start), most)
    bound = -highs.getInfo().mip_dual_bound * scale
    chosen = {
        name: int(np.argmax(columns[first : first + len(program.levels[name])]))
        for name, first in program.first.items()
    }
    return Solution(chosen, bound)


def _model(highspy: Any, program: _Program, binary: int, scale: float) -> Any:
    """In the solver's terms: minimise, rows of a sparse matrix."""
    lp = highspy.HighsLp()
    columns, rows = len(program.upper), len(program.rows)
    lp.num_col_, lp.num_row_ = columns, rows
    lp.col_cost_ = -np.array(program.value) / scale
    lp.col_lower_, lp.col_upper_ = np.zeros(columns), np.array(program.upper)
    lp.row_lower_ = np.array([low for _, low, _ in program.rows])
    lp.row_upper_ = np.array([high for _, _, high in program.rows])
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = np.cumsum([0, *(len(terms) for terms, _, _ in program.rows)])
    lp.a_matrix_.index_ = np.array([c for terms, _, _ in program.rows for c in terms])
    lp.a_matrix_.value_ = np.array([by for terms, _, _ in program.rows for by in terms.values()])
    lp.integrality_ = [
        highspy.HighsVarType.kInteger if column < binary else highspy.HighsVarType.kContinuous
        for column in range(columns)
    ]
    return lp


def _started(highspy: Any, program: _Program, start: Mapping[str, int]) -> Any:
    """The columns of a choice of levels; products follow from them in the order they were made."""
    values = np.zeros(len(program.upper))
    for name, level in start.items():
        values[program.first[name] + level] = 1.0
    solution = highspy.HighsSolution()
    solution.col_value = values
    return solution

"""Which of many stay, as few bits as that takes: a bitmap, run lengths, an index k of n, or lines.

An index is coded place by place, each with the probability that is left: of a row in which exactly k of
n stay and so far j of i did, the next one stays with (k - j) / (n - i). That adds up to log2 C(n, k) for
every row, whichever stay. One long row takes k / n throughout, which costs a few bits more.

Lines are rows, or columns, of which each is expected to keep what those before it kept: of the pixels at
the rim of an image every neuron drops the same. Of r lines that kept place j so often as c_j, with density
d = k / n, the next one keeps it with (c_j + A d) / (r + A). That is below log2 C(n, k) where lines are alike.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from secateur.wire.adaptive import Kind
from secateur.wire.entropy import TOTAL, Ints
from secateur.wire.page import Leaf, Page
from secateur.wire.varint import Reader, Writer

Bools = NDArray[np.bool_]

_ROW = 4096  # units of a row of an index at most
_ROWS = 1 << 24  # units of all rows at most
_BATCH = 1 << 13  # places that are looked at together
_TRUSTS = (4, 16, 64)
_RUNS = Kind("runs", 0, 256)


class Way(enum.IntEnum):
    """How positions are written."""

    BITMAP = 0
    RUNS = 1
    INDEX = 2
    ROWS = 3
    LINES = 4


@dataclass(frozen=True, slots=True)
class _Lines:
    """A table of positions and how its lines are taken.

    Attributes:
        width: of the table, whose rows follow each other.
        across: its columns are the lines, instead of its rows.
        trust: A of the formula: after so many lines, half of what is expected is what was seen.
    """

    width: int
    across: bool
    trust: int


def index_bits(n: int, k: int) -> float:
    """log2 C(n, k)."""
    logs = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return max(0.0, logs / math.log(2.0))


def put(page: Page, stay: Bools, widths: Iterable[int] = ()) -> Way:
    """Write which stay, bool (n,), in the way that takes least.

    Args:
        widths: of rows that may keep equally many each, or alike; those that do not divide n are passed
            over.
    """
    widths = tuple(widths)
    n, k = stay.size, int(np.count_nonzero(stay))
    costs: list[tuple[float, Way, int]] = [(8.0 * -(-n // 8), Way.BITMAP, 0)]
    lines: list[tuple[float, _Lines]] = []
    if 0 < k < n:
        overhead = 0.5 * math.log2(2 * math.pi * k * (n - k) / n + 1)
        costs.append((index_bits(n, k) + overhead + 8, Way.INDEX, 0))
        for table in (stay.reshape(-1, width) for width in widths if _divides(width, n)):
            in_rows = _kept(table, 1)
            if (each := _in_each(in_rows, table)) is not None:
                width = table.shape[1]
                costs.append((len(table) * index_bits(width, each) + 24, Way.ROWS, width))
            lines += _lines(in_rows, table)
        costs += [(bits + 40, Way.LINES, place) for place, (bits, _) in enumerate(lines)]
        runs = _runs(stay)
        weighed = page.weigh(_as_bytes(runs), _RUNS) if runs.size * 8 < min(costs)[0] else None
        if weighed is not None:
            costs.append((weighed.bits + 16, Way.RUNS, 0))
    else:
        costs.append((0.0, Way.INDEX, 0))
    _, way, chosen = min(costs)
    page.parameters.number(way)
    match way:
        case Way.BITMAP:
            page.plain += np.packbits(stay, bitorder="little").tobytes()
        case Way.RUNS if weighed is not None:
            page.parameters.number(int(weighed.counts.sum()))
            page.put(weighed)
        case Way.INDEX:
            page.parameters.number(k)
            if 0 < k < n:
                page.coded.put(stay, _chances(k, n))
        case Way.ROWS:
            page.parameters.number(chosen)
            page.parameters.number(k * chosen // n)
            _put_rows(page, stay.reshape(-1, chosen))
        case Way.LINES:
            _put_lines(page, stay, k, lines[chosen][1])
    return way


def take(leaf: Leaf, n: int) -> Bools:
    """Inverse of `put`: bool (n,).

    Raises:
        ValueError: the block says something else.
    """
    match Way(leaf.parameters.number()):
        case Way.BITMAP:
            packed = np.frombuffer(leaf.plain.raw(-(-n // 8)), np.uint8)
            bits = np.unpackbits(packed, bitorder="little")
            if bits[n:].any():
                raise ValueError("a bitmap is longer than its tensor")
            return bits[:n].astype(np.bool_)
        case Way.RUNS:
            length = leaf.parameters.number()
            if length > 2 * n + 1:
                raise ValueError(f"{length} run lengths for {n} positions")
            return _from_runs(leaf.take(length, _RUNS)[0], n)
        case Way.INDEX:
            k = leaf.parameters.number()
            if k > n:
                raise ValueError(f"{k} of {n} cannot stay")
            if k in (0, n):
                return np.full(n, k == n and n > 0)
            stay = leaf.coded.take(n, _chances(k, n)).astype(np.bool_)
            _check(int(np.count_nonzero(stay)), k)
            return stay
        case Way.ROWS:
            width, k = leaf.parameters.number(), leaf.parameters.number()
            if not 0 < k <= width <= _ROW or n % width or n > _ROWS:
                raise ValueError(f"no rows of {width} that keep {k} of {n}")
            return _take_rows(leaf, n // width, width, k).reshape(-1)
        case Way.LINES:
            return _take_lines(leaf, n)


def _divides(width: int, n: int) -> bool:
    return 1 < width <= n <= _ROWS and n % width == 0


def _in_each(in_rows: Ints, table: Bools) -> int | None:
    """How many stay in each row; None where the rows differ, are too long, or only one and long."""
    count, width = table.shape
    if width > _ROW or (count == 1 and width > 64):
        return None
    return int(in_rows[0]) if (in_rows == in_rows[0]).all() else None


def _kept(table: Bools, axis: int) -> Ints:
    """How many stay along an axis; torch adds narrow rows up in a tenth of numpy's time."""
    kept: Ints = torch.from_numpy(table).sum(axis).numpy()
    return kept


def _put_rows(page: Page, rows: Bools) -> None:
    """Column by column: the first places of all rows, then the second."""
    width = rows.shape[1]
    k = int(np.count_nonzero(rows[0]))
    for begin, columns, before in _batches(rows.T):
        of = np.arange(width - begin, width - begin - len(columns), -1)
        page.coded.put(columns.reshape(-1), _chances(k - before, of[:, None]))


def _take_rows(leaf: Leaf, count: int, width: int, k: int) -> Bools:
    rows, left = np.empty((count, width), np.bool_), np.full(count, k, np.int64)
    for column in range(width):
        bits = leaf.coded.take(count, _chances(left, width - column))
        rows[:, column] = bits
        left = np.maximum(left - bits, 0)
    _check(int(np.count_nonzero(rows)), k * count)
    return rows


def _lines(in_rows: Ints, table: Bools) -> list[tuple[float, _Lines]]:
    """What lines cost, of both directions, in bits: the formula's chances multiplied, all lines at once."""
    n, k, found = table.size, int(in_rows.sum()), []
    for across in (False, True):
        count = table.shape[across]
        if not 1 < count <= min(_ROW, 2 * n // count):
            continue  # many short lines take long, and tell little
        kept = in_rows if across else _kept(table, 0)
        seen = np.bincount(kept, minlength=count + 1)  # places by how many lines keep them
        stays, leaves, both = (_log_rising(share / n, count) for share in (k, n - k, n))
        nats = n // count * both[:, -1] - (stays + leaves[:, ::-1]) @ seen
        for trust, bits in zip(_TRUSTS, (nats / math.log(2.0)).tolist(), strict=True):
            found.append((bits, _Lines(table.shape[1], across, trust)))
    return found


def _log_rising(share: float, most: int) -> NDArray[np.float64]:
    """log of a (a + 1) ... (a + i - 1), for a = A share and i from 0 to `most`; a row for each A."""
    factors = np.empty((len(_TRUSTS), most + 1))
    factors[:, 0] = 1.0
    factors[:, 1:] = np.multiply.outer(_TRUSTS, [share]) + np.arange(most)
    logs: NDArray[np.float64] = np.cumsum(np.log(factors), 1)
    return logs


def _put_lines(page: Page, stay: Bools, k: int, how: _Lines) -> None:
    page.parameters.number(how.width)
    page.parameters.number(how.across)
    page.parameters.number(how.trust)
    page.parameters.number(k)
    table = stay.reshape(-1, how.width)
    for begin, lines, before in _batches(table.T if how.across else table):
        of = np.arange(begin, begin + len(lines))
        page.coded.put(lines.reshape(-1), _expected(before, of[:, None], k, stay.size, how.trust))


def _batches(table: Bools) -> Iterator[tuple[int, Bools, Ints]]:
    """Lines of a table, as many at a time as can be looked at together, from which one on.

    With them, how many lines before each one keep each place.
    """
    kept = np.zeros(table.shape[1], np.int64)
    step = max(1, _BATCH // table.shape[1])
    for begin in range(0, len(table), step):
        lines = np.ascontiguousarray(table[begin : begin + step])
        before = np.empty(lines.shape, np.int64)
        for line, so_far in zip(lines, before, strict=True):
            so_far[:] = kept
            kept += line
        yield begin, lines, before


def _take_lines(leaf: Leaf, n: int) -> Bools:
    width, across, trust, k = (leaf.parameters.number() for _ in range(4))
    if not 1 < width < n or n % width or n > _ROWS or across > 1 or not 1 <= trust <= _ROW:
        raise ValueError(f"no lines of a table that is {width} wide, of {n}")
    shape = (width, n // width) if across else (n // width, width)
    if not 0 < k < n or shape[0] > _ROW:
        raise ValueError(f"{shape[0]} lines that keep {k} of {n}")
    lines, kept = np.empty(shape, np.bool_), np.zeros(shape[1], np.int64)
    for number, line in enumerate(lines):
        line[:] = leaf.coded.take(shape[1], _expected(kept, number, k, n, trust))
        kept += line
    _check(int(kept.sum()), k)
    return (lines.T if across else lines).reshape(-1)


def _expected(kept: Ints, lines: int | Ints, k: int, n: int, trust: int) -> Ints:
    """Frequencies of (leaves, stays) at places that `kept` of so many lines kept."""
    density = (k << 16) // n
    return _pairs(((kept << 16) + trust * density) * (TOTAL >> 16) // (lines + trust))


def _chances(left: int | Ints, of: int | Ints) -> Ints:
    """Frequencies of (leaves, stays): as many are left of so many places."""
    return _pairs(np.asarray(left, np.int64) * TOTAL // of)


def _pairs(stays: Ints) -> Ints:
    """Frequencies (2,), or (n, 2), of (leaves, stays)."""
    pairs = np.empty((stays.size, 2), np.int64)
    pairs[:, 1] = np.minimum(np.maximum(stays, 1), TOTAL - 1).reshape(-1)
    pairs[:, 0] = TOTAL - pairs[:, 1]
    return pairs if stays.ndim else pairs[0]


def _check(found: int, announced: int) -> None:
    if found != announced:
        raise ValueError(f"{announced} positions are announced, and {found} stay")


def _runs(stay: Bools) -> Ints:
    """Lengths of runs, the first of them of what leaves, perhaps 0; the last is not told."""
    turns = np.flatnonzero(stay[1:] != stay[:-1]) + 1
    begins = np.concatenate([[0], turns] if not stay[0] else [[0], [0], turns])
    return np.diff(begins).astype(np.int64)


def _as_bytes(runs: Ints) -> NDArray[np.uint8]:
    """Numbers as `Writer.number` writes them, as symbols."""
    if not runs.size or int(runs.max()) < 128:
        return runs.astype(np.uint8)
    writer = Writer()
    for run in runs.tolist():
        writer.number(run)
    return np.frombuffer(writer.bytes, np.uint8)


def _from_runs(symbols: NDArray[np.uint8], n: int) -> Bools:
    if not symbols.size or int(symbols.max()) < 128:
        runs = symbols.astype(np.int64)
    else:
        reader, found = Reader(symbols.tobytes()), []
        while reader.left:
            found.append(min(reader.number(), n + 1))
        runs = np.array(found, np.int64)
    turns = np.cumsum(runs)
    if (turns.size and int(turns[-1]) >= n) or (runs[1:] == 0).any():
        raise ValueError("runs are longer than the tensor, or empty")
    flips = np.zeros(n, np.int8)
    flips[turns] = 1  # no two fall together
    odd: Bools = np.cumsum(flips, dtype=np.int64) % 2 == 1
    return odd

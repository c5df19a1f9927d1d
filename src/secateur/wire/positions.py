"""Which of many stay, as few bits as that takes: a bitmap, run lengths, or an index k of n.

An index is coded place by place, each with the probability that is left: of a row in which exactly k of
n stay and so far j of i did, the next one stays with (k - j) / (n - i). That adds up to log2 C(n, k) for
every row, whichever stay. One long row takes k / n throughout, which costs a few bits more.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from secateur.wire.adaptive import Kind
from secateur.wire.entropy import TOTAL, Ints
from secateur.wire.page import Leaf, Page
from secateur.wire.varint import Reader, Writer

Bools = NDArray[np.bool_]

_ROW = 4096  # units of a row of an index at most
_ROWS = 1 << 24  # units of all rows at most
_RUNS = Kind("runs", 0, 256)


class Way(enum.IntEnum):
    """How positions are written."""

    BITMAP = 0
    RUNS = 1
    INDEX = 2
    ROWS = 3


def index_bits(n: int, k: int) -> float:
    """log2 C(n, k)."""
    logs = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return max(0.0, logs / math.log(2.0))


def put(page: Page, stay: Bools, widths: Iterable[int] = ()) -> Way:
    """Write which stay, bool (n,), in the way that takes least.

    Args:
        widths: of rows that may keep equally many each; those that do not divide n are passed over.
    """
    n, k = stay.size, int(np.count_nonzero(stay))
    costs: list[tuple[float, Way, int]] = [(8.0 * -(-n // 8), Way.BITMAP, 0)]
    if 0 < k < n:
        overhead = 0.5 * math.log2(2 * math.pi * k * (n - k) / n + 1)
        costs.append((index_bits(n, k) + overhead + 8, Way.INDEX, 0))
        costs += [
            (n // width * index_bits(width, each) + 24, Way.ROWS, width)
            for width in widths
            if (each := _in_each(stay, width)) is not None
        ]
        runs = _runs(stay)
        weighed = page.weigh(_as_bytes(runs), _RUNS) if runs.size * 8 < min(costs)[0] else None
        if weighed is not None:
            costs.append((weighed.bits + 16, Way.RUNS, 0))
    else:
        costs.append((0.0, Way.INDEX, 0))
    _, way, width = min(costs)
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
                page.coded.put(stay.astype(np.int32), _chances(k, n))
        case Way.ROWS:
            page.parameters.number(width)
            page.parameters.number(k * width // n)
            _put_rows(page, stay.reshape(-1, width))
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
            return _from_runs(leaf.take(length, _RUNS), n)
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


def _in_each(stay: Bools, width: int) -> int | None:
    """How many stay in each row; None where the rows differ, or are no rows."""
    n = stay.size
    if not 1 < width <= _ROW or n % width or n > _ROWS or n == width > 64:
        return None
    each = np.count_nonzero(stay.reshape(-1, width), axis=1)
    return int(each[0]) if (each == each[0]).all() else None


def _put_rows(page: Page, rows: Bools) -> None:
    """Column by column: the first places of all rows, then the second."""
    left = np.count_nonzero(rows, axis=1)
    for column in range(rows.shape[1]):
        bits = rows[:, column]
        page.coded.put(bits.astype(np.int32), _chances(left, rows.shape[1] - column))
        left = left - bits


def _take_rows(leaf: Leaf, count: int, width: int, k: int) -> Bools:
    rows, left = np.empty((count, width), np.bool_), np.full(count, k, np.int64)
    for column in range(width):
        bits = leaf.coded.take(count, _chances(left, width - column))
        rows[:, column] = bits
        left = np.maximum(left - bits, 0)
    _check(int(np.count_nonzero(rows)), k * count)
    return rows


def _chances(left: int | Ints, of: int) -> Ints:
    """Frequencies of (leaves, stays), (2,) or (n, 2): as many as are left of so many places."""
    stays = np.clip(np.asarray(left, np.int64) * TOTAL // of, 1, TOTAL - 1)
    return np.stack([TOTAL - stays, stays], axis=-1)


def _check(found: int, announced: int) -> None:
    if found != announced:
        raise ValueError(f"{announced} positions are announced, and {found} stay")


def _runs(stay: Bools) -> Ints:
    """Lengths of runs, the first of them of what leaves, perhaps 0; the last is not told."""
    turns = np.flatnonzero(stay[1:] != stay[:-1]) + 1
    begins = np.concatenate([[0], turns] if not stay[0] else [[0], [0], turns])
    return np.diff(begins).astype(np.int64)


def _as_bytes(runs: Ints) -> NDArray[np.int32]:
    """Numbers as `Writer.number` writes them, as symbols."""
    if not runs.size or int(runs.max()) < 128:
        return runs.astype(np.int32)
    writer = Writer()
    for run in runs.tolist():
        writer.number(run)
    return np.frombuffer(writer.bytes, np.uint8).astype(np.int32)


def _from_runs(symbols: NDArray[np.int32], n: int) -> Bools:
    if not symbols.size or int(symbols.max()) < 128:
        runs = symbols.astype(np.int64)
    else:
        reader, found = Reader(symbols.astype(np.uint8).tobytes()), []
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

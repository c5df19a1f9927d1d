"""Which of many stay."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.wire import positions
from secateur.wire.adaptive import Memory
from secateur.wire.page import Leaf, Page
from secateur.wire.positions import Way
from tests.wire import plain_reader


def _round(stay: np.ndarray, widths: tuple[int, ...] = ()) -> tuple[Way, int]:
    """Write and read; how, and how many bytes."""
    page = Page(Memory())
    way = positions.put(page, stay, widths)
    parameters, content = page.finish()
    leaf = Leaf(memoryview(parameters), memoryview(content), Memory())
    assert positions.take(leaf, stay.size).tolist() == stay.tolist()
    leaf.end()
    block = plain_reader.Block(parameters, content, {})
    assert block.positions(stay.size) == stay.tolist()
    block.end()
    return way, len(parameters) + len(content)


@given(st.lists(st.booleans(), max_size=300), st.integers(1, 20))
def test_anything(bits: list[bool], width: int) -> None:
    _round(np.array(bits, np.bool_), (width,))


@given(st.integers(0, 30), st.integers(1, 60), st.data(), st.integers(0, 2**32 - 1))
def test_rows(rows: int, n: int, data: st.DataObject, seed: int) -> None:
    k = data.draw(st.integers(0, n))
    draw = np.random.default_rng(seed)
    stay = np.zeros((rows, n), np.bool_)
    for row in stay:
        row[draw.permutation(n)[:k]] = True
    _round(stay.reshape(-1), (n,))


@given(st.lists(st.integers(1, 500), max_size=20), st.booleans())
def test_runs(runs: list[int], first: bool) -> None:
    stay = np.concatenate([np.full(r, (i + first) % 2) for i, r in enumerate(runs)] or [[]])
    _round(stay.astype(np.bool_))


def _drawn(rows: int, n: int, k: int) -> np.ndarray:
    draw = np.random.default_rng(0)
    stay = np.zeros((rows, n), np.bool_)
    for row in stay:
        row[draw.permutation(n)[:k]] = True
    return stay.reshape(-1)


def _uneven(rows: int, n: int) -> np.ndarray:
    """Rows that keep nearly all, or nearly nothing."""
    draw = np.random.default_rng(0)
    return (draw.random((rows, n)) < draw.choice([0.02, 0.98], (rows, 1))).reshape(-1)


@pytest.mark.parametrize(
    ("stay", "widths", "way", "bits"),
    [
        (_drawn(300, 784, 78), (784,), Way.ROWS, 300 * positions.index_bits(784, 78)),
        (_drawn(5000, 4, 2), (4,), Way.ROWS, 5000 * math.log2(6)),
        (_drawn(1, 200_000, 20_000), (), Way.INDEX, positions.index_bits(200_000, 20_000)),
        (_drawn(1, 20_000, 10_000), (), Way.BITMAP, 20_000),
        (np.repeat(_drawn(1, 20, 10), 1000), (), Way.RUNS, 11 * 16),
        (np.tile(_drawn(1, 50, 10), 100), (50,), Way.LINES, 500),
        (_uneven(100, 60), (60, 4), Way.LINES, 1600),
        (np.ones(10_000, np.bool_), (), Way.INDEX, 0),
        (np.zeros(10_000, np.bool_), (), Way.INDEX, 0),
        (np.zeros(0, np.bool_), (), Way.BITMAP, 0),
    ],
)
def test_the_smallest_way_is_taken(
    stay: np.ndarray, widths: tuple[int, ...], way: Way, bits: float
) -> None:
    found, length = _round(stay, widths)
    assert found is way
    assert length <= bits / 8 * 1.001 + 10


def test_log_binomials() -> None:
    for n, k in ((10, 3), (300, 100), (1, 1), (0, 0)):
        assert positions.index_bits(n, k) == pytest.approx(math.log2(math.comb(n, k)), abs=1e-9)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ((0, 9), "not a valid Way"),
        ((0, 2, 11), "11 of 10"),
        ((0, 2, 3), "3 positions are announced"),
        ((0, 3, 0, 0), "no rows"),
        ((0, 3, 3, 1), "no rows"),
        ((0, 3, 5, 6), "no rows"),
        ((0, 4, 3, 0, 4, 2), "no lines"),
        ((0, 4, 5, 2, 4, 2), "no lines"),
        ((0, 4, 5, 0, 0, 2), "no lines"),
        ((0, 4, 10, 0, 4, 2), "no lines"),
        ((0, 4, 5, 0, 4, 10), "lines that keep"),
        ((0, 4, 5, 1, 4, 7), "7 positions are announced"),
        ((0, 1, 100), "run lengths"),
        ((0, 0), "announced"),
    ],
)
def test_what_lies(parameters: tuple[int, ...], message: str) -> None:
    leaf = Leaf(memoryview(bytes(parameters)), memoryview(b""), Memory())
    with pytest.raises(ValueError, match=message):
        positions.take(leaf, 10)


def test_a_bitmap_has_no_bits_behind_its_end() -> None:
    leaf = Leaf(memoryview(bytes([2, 0])), memoryview(b"\xff\xff"), Memory())
    with pytest.raises(ValueError, match="longer"):
        positions.take(leaf, 10)

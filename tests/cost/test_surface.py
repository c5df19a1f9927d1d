"""Times between those that were measured, and the steps in them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.cost.surface import (
    MULTIPLES,
    Point,
    Surface,
    axis,
    best_multiple,
    points,
    stairs,
)


def smooth(point: Point) -> float:
    outs, ins = point
    return 1e-6 * (50 + outs + 2 * ins + 3 * outs * ins)


def stepped(point: Point) -> float:
    """Sixteen channels at a time, as vector registers have it."""
    outs, ins = point
    return 1e-6 * (math.ceil(outs / 16) * 16 * ins)


@given(st.integers(1, 2000))
def test_the_widths_that_are_measured(size: int) -> None:
    widths = axis(size)
    assert widths == tuple(sorted(set(widths)))
    assert widths[-1] == size
    assert widths[0] >= 1
    assert len(widths) <= 5
    for multiple, width in stairs(size).items():
        assert multiple in MULTIPLES
        assert 1 <= width <= size
        assert width % multiple == 0
        assert width % (2 * multiple)


@pytest.mark.parametrize("sizes", [(64, 48), (8, 3), (1, 1), (24, 1)])
def test_a_smooth_layer(sizes: Point) -> None:
    surface = Surface(*sizes, {point: smooth(point) for point in points(*sizes)})
    low = (axis(sizes[0])[0], axis(sizes[1])[0])
    for outs in range(low[0], sizes[0] + 1):
        for ins in range(low[1], sizes[1] + 1):
            assert surface.seconds(outs, ins) == pytest.approx(smooth((outs, ins)))
    found = surface.plane()
    assert (found >= 0).all()
    if len(axis(sizes[1])) > 1:
        assert found == pytest.approx(np.array([50, 1, 2, 3]) * 1e-6, rel=1e-3)


def test_below_the_smallest_that_was_measured_nothing_is_won() -> None:
    surface = Surface(64, 64, {point: smooth(point) for point in points(64, 64)})
    assert surface.seconds(1, 1) == surface.seconds(axis(64)[0], axis(64)[0])


def test_steps_are_found() -> None:
    surface = Surface(64, 64, {point: stepped(point) for point in points(64, 64)})
    assert best_multiple(surface.per_unit(of_outs=True)) == 16
    assert best_multiple(surface.per_unit(of_outs=False)) == 1
    assert best_multiple({}) == 1


@given(st.integers(0, 1000))
def test_more_channels_never_take_less_time(seed: int) -> None:
    draw = np.random.default_rng(seed)
    surface = Surface(32, 16, {point: float(draw.uniform(1, 2)) for point in points(32, 16)})
    grid = [[surface.seconds(o, i) for i in range(1, 17)] for o in range(1, 33)]
    assert (np.diff(grid, axis=0) >= 0).all()
    assert (np.diff(grid, axis=1) >= 0).all()
    assert (surface.plane() >= 0).all()

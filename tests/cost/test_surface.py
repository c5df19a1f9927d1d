"""Times between those that were measured."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.cost.surface import Point, Surface, axis, points


def smooth(point: Point) -> float:
    outs, ins = point
    return 1e-6 * (50 + outs + 2 * ins + 3 * outs * ins)


@given(st.integers(1, 2000))
def test_the_widths_that_are_measured(size: int) -> None:
    widths = axis(size)
    assert widths == tuple(sorted(set(widths)))
    assert widths[-1] == size
    assert widths[0] >= 1
    assert len(widths) <= 5
    assert all(width % (16 if size >= 64 else 1) == 0 for width in widths[:-1])


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


@given(st.integers(0, 1000))
def test_what_was_measured_stands(seed: int) -> None:
    """Noise and steps as they are: a smaller width may take longer."""
    draw = np.random.default_rng(seed)
    measured = {point: float(draw.uniform(1, 2)) for point in points(32, 16)}
    surface = Surface(32, 16, measured)
    assert {point: surface.seconds(*point) for point in measured} == pytest.approx(measured)
    assert (surface.plane() >= 0).all()

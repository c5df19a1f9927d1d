"""Whether a latency budget holds: by one run, or where that cannot tell, by the middle of three."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from secateur.pipeline.measuring import _timed
from secateur.types.budget import parse


@pytest.mark.parametrize(
    ("readings", "runs", "taken"),
    [
        ([0.40, 0.9, 0.9], 1, 0.40),  # holds by far
        ([0.60, 0.61, 0.59], 3, 0.60),  # misses by far
        ([0.55, 0.48, 0.49], 3, 0.49),  # disturbed once
        ([0.499, 0.52, 0.53], 3, 0.52),  # held by luck
        ([0.505, 0.48, 0.49], 3, 0.49),  # missed by chance
    ],
)
def test_a_run_that_does_not_clearly_hold_is_repeated(
    readings: Sequence[float], runs: int, taken: float
) -> None:
    left = iter(readings)

    def beside(_: nn.Module) -> list[Any]:
        return [SimpleNamespace(median_s=2.0), SimpleNamespace(median_s=2.0 * next(left))]

    stopwatch = SimpleNamespace(against=lambda dense, example: beside)
    job: Any = SimpleNamespace(stopwatch=stopwatch, budgets=(parse("latency=0.5"),))
    found = _timed(job, (nn.Identity(), nn.Identity()), None)
    assert found[1].median_s == pytest.approx(2.0 * taken)
    assert len(list(left)) == 3 - runs

"""Whether a latency budget holds, by the middle of three runs."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from secateur.pipeline.measuring import _timed
from secateur.types.budget import parse


@pytest.mark.parametrize(
    ("budgets", "readings", "taken"),
    [
        (("latency=0.5",), [0.60, 0.61, 0.59], 0.60),  # misses
        (("latency=0.5",), [0.55, 0.48, 0.49], 0.49),  # disturbed once
        (("latency=0.5",), [0.40, 0.52, 0.53], 0.52),  # held by luck, even by far
        ((), [0.40], 0.40),  # nothing is judged by it
    ],
)
def test_a_latency_budget_is_judged_by_the_middle_of_three_runs(
    budgets: Sequence[str], readings: Sequence[float], taken: float
) -> None:
    left = iter(readings)

    def beside(_: nn.Module) -> list[Any]:
        return [SimpleNamespace(median_s=2.0), SimpleNamespace(median_s=2.0 * next(left))]

    stopwatch = SimpleNamespace(against=lambda dense, example: beside)
    job: Any = SimpleNamespace(stopwatch=stopwatch, budgets=tuple(map(parse, budgets)))
    found = _timed(job, (nn.Identity(), nn.Identity()), None)
    assert found[1].median_s == pytest.approx(2.0 * taken)
    assert not list(left)

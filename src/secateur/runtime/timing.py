"""Loaded networks timed against each other, whatever runs them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from secateur.cost import interleaved


def seconds(
    calls: Sequence[Callable[[], Any]],
    *,
    repeats: int = 30,
    warmup: int = 3,
    most: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[list[float]]:
    """Seconds of every repeat of every call, taken in turns.

    Repeat i of one call and repeat i of another were taken one right after the other, so that their
    ratio is one that a busy machine disturbs little.

    Args:
        most: no turn begins once so many seconds are over, after the first few.
        clock: tells seconds; `time.process_time` those in which the process had a processor, which
            others on the machine disturb less, and which several threads add up.
    """
    return interleaved(
        [_clocked(one, clock) for one in calls], repeats=repeats, warmup=warmup, seconds=most
    )


def _clocked(once: Callable[[], Any], clock: Callable[[], float]) -> Callable[[], float]:
    def timed() -> float:
        begin = clock()
        once()
        return clock() - begin

    return timed

"""Loaded networks timed against each other, whatever runs them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from secateur.cost import interleaved


def seconds(
    calls: Sequence[Callable[[], Any]], *, repeats: int = 30, warmup: int = 3
) -> list[list[float]]:
    """Seconds of every repeat of every call, taken in turns.

    Repeat i of one call and repeat i of another were taken one right after the other, so that their
    ratio is one that a busy machine disturbs little.
    """
    return interleaved([_clocked(one) for one in calls], repeats=repeats, warmup=warmup)


def _clocked(once: Callable[[], Any]) -> Callable[[], float]:
    def timed() -> float:
        begin = time.perf_counter()
        once()
        return time.perf_counter() - begin

    return timed

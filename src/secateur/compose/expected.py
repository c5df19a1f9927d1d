"""What earlier steps of the oracle let one expect of the candidates of the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from secateur.compose.candidates import Candidate
from secateur.compose.steps import Step, Tried

_STEPS = 16  # so far back a candidate is remembered
_FEWEST = 32  # candidates measured in two steps, one after the other: fewer show no drift
_DRIFT = 1 / 8  # the least that is believed


@dataclass(frozen=True, slots=True)
class Expected:
    """What is expected of a candidate on samples that it was not measured on.

    Attributes:
        change: by how much the mean loss rises without it.
        error: standard deviation of that.
    """

    change: float
    error: float


def expected(
    steps: Sequence[Step], candidates: Sequence[Candidate], samples: int
) -> tuple[Expected | None, ...]:
    """Of each candidate, from the last step that told its spread; None where there is none.

    Steps draw their samples afresh, so two of them differ by chance: the variance of the difference
    is s^2 (1 / n + 1 / N) for a spread s, n samples then and N now. They differ as well because units
    have left in between. How much more that makes is seen in the steps themselves: f is the mean
    square of the differences between steps that follow each other, in units of their own variance, and
    f - 1, at least 1/8, is added to it for every step in between.

    Args:
        samples: how many the candidates are about to be measured on.
    """
    recent = steps[-_STEPS:]
    drift = _drift(recent)
    if drift is None:
        return (None,) * len(candidates)
    last = {unit: (step, tried) for step in recent for unit, tried in _told(step).items()}
    found: list[Expected | None] = []
    for candidate in candidates:
        if (candidate.group, candidate.unit) not in last:
            found.append(None)
            continue
        step, tried = last[candidate.group, candidate.unit]
        age = len(steps) - step.step
        variance = tried.spread**2 * (1 / tried.samples + 1 / samples) * (1 + drift * age)
        found.append(Expected(tried.loss - step.present, variance**0.5))
    return tuple(found)


def _drift(steps: Sequence[Step]) -> float | None:
    """What a step adds to the variance of what is expected; None where too little was seen."""
    squares: list[float] = []
    for one, other in pairwise(steps):
        before, after = _told(one), _told(other)
        for unit in before.keys() & after.keys():
            a, b = before[unit], after[unit]
            difference = (b.loss - other.present) - (a.loss - one.present)
            variance = a.spread**2 / a.samples + b.spread**2 / b.samples
            squares.append(difference**2 / variance)
    if len(squares) < _FEWEST:
        return None
    return max(_DRIFT, sum(squares) / len(squares) - 1)


def _told(step: Step) -> dict[tuple[str, int], Tried]:
    """The candidates whose spread was told."""
    return {(tried.group, tried.unit): tried for tried in step.tried if tried.spread > 0}

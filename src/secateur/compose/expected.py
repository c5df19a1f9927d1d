"""What earlier steps of the oracle let one expect of the candidates of the next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from secateur.compose.candidates import Candidate
from secateur.compose.steps import Step, Tried

_REMEMBERED = 4  # steps, after which a candidate is measured again: it alone may have changed
_LOOKED_AT = 16  # steps, for the drift
_PAIRS = 32  # candidates measured in two steps, one after the other: fewer show no drift
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
    is s^2 (1 / n + 1 / N) for a spread s, n samples then and N now, were the n drawn evenly (a race
    takes more of the hard ones). They differ as well because units have left in between. How much
    more that makes is seen in the steps themselves: f is the mean square of the differences between
    steps that follow each other, in units of their own variance, and f - 1, at least 1/8, is added to
    it for every step in between, for all candidates alike. After four steps a candidate is forgotten.

    Args:
        samples: how many the candidates are about to be measured on.
    """
    drift = _drift(steps[-_LOOKED_AT:])
    if drift is None:
        return (None,) * len(candidates)
    recent = steps[-_REMEMBERED:]
    last = {unit: (step, tried) for step in recent for unit, tried in _told(step).items()}
    found: list[Expected | None] = []
    for candidate in candidates:
        if (candidate.group, candidate.unit) not in last:
            found.append(None)
            continue
        step, tried = last[candidate.group, candidate.unit]
        age = len(steps) - step.step
        error = tried.spread * math.sqrt((1 / tried.samples + 1 / samples) * (1 + drift * age))
        found.append(Expected(tried.loss - step.present, error))
    return tuple(found)


def _drift(steps: Sequence[Step]) -> float | None:
    """What a step adds to the variance of what is expected; None where too little was seen."""
    squares: list[float] = []
    for one, other in pairwise(steps):
        before, after = _told(one), _told(other)
        for unit in before.keys() & after.keys():
            a, b = before[unit], after[unit]
            difference = (b.loss - other.present) - (a.loss - one.present)
            error = math.hypot(a.spread / math.sqrt(a.samples), b.spread / math.sqrt(b.samples))
            ratio = difference / error if error > 0 else math.inf
            squares.append(ratio * ratio)
    if len(squares) < _PAIRS:
        return None
    return max(_DRIFT, sum(squares) / len(squares) - 1)


def _told(step: Step) -> dict[tuple[str, int], Tried]:
    """The candidates whose spread was told."""
    return {(tried.group, tried.unit): tried for tried in step.tried if tried.spread > 0}

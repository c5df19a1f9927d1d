"""What earlier steps let one expect: known answers, and how often it holds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch

from secateur.compose.candidates import Candidate
from secateur.compose.expected import Expected, expected
from secateur.compose.steps import Step, Tried

UNITS = [Candidate("g", unit, "m") for unit in range(8)]


def step(number: int, changes: Sequence[float], spread: float = 2.0, samples: int = 64) -> Step:
    """A step in which unit i changes the loss, 1 before, by `changes[i]`."""
    tried = tuple(
        Tried("g", unit, "m", 1.0 + change, samples, spread=spread)
        for unit, change in enumerate(changes)
    )
    return Step(number, tried, 0, 1.0, 256, 99)


def alike(count: int) -> list[Step]:
    return [step(number, [0.1 * unit for unit in range(8)]) for number in range(count)]


def test_the_last_step_tells_the_change_and_the_spread_its_error() -> None:
    found = expected(alike(9), UNITS, 256)
    for unit, known in enumerate(found):
        assert known is not None
        assert known.change == pytest.approx(0.1 * unit)
        assert known.error == pytest.approx(2.0 * math.sqrt((1 / 64 + 1 / 256) * (1 + 1 / 8)))


def test_what_was_seen_longer_ago_is_less_certain_and_at_last_forgotten() -> None:
    steps = alike(9)
    others = [step(9 + number, [0.1 * unit for unit in range(7)]) for number in range(4)]
    errors = []
    for later in range(5):
        known = expected(steps + others[:later], UNITS, 256)[7]
        errors.append(math.inf if known is None else known.error)
    squares = [error**2 for error in errors[:4]]
    assert squares == pytest.approx(
        [4.0 * (1 / 64 + 1 / 256) * (1 + (1 + later) / 8) for later in range(4)]
    )
    assert errors[4] == math.inf


def test_nothing_is_expected_of_the_unknown_and_before_enough_was_seen() -> None:
    assert expected([], UNITS, 256) == (None,) * 8
    assert expected(alike(4), UNITS, 256) == (None,) * 8  # 24 pairs
    assert None not in expected(alike(5), UNITS, 256)
    stranger = Candidate("other", 0, "m")
    assert expected(alike(9), [stranger], 256) == (None,)


def test_candidates_whose_spread_was_not_told_tell_nothing() -> None:
    exact = [step(number, [0.1] * 8, spread=0.0) for number in range(9)]
    assert expected(exact, UNITS, 256) == (None,) * 8


def test_where_steps_change_much_less_is_certain() -> None:
    """Changes that swing by 0.5: 0.25 over 2 x 4 / 64 is twice what chance makes, so the drift is 1."""
    steps = [step(number, [0.5 * (number % 2)] * 8) for number in range(9)]
    known = expected(steps, UNITS, 256)[0]
    assert known == Expected(0.0, pytest.approx(2.0 * math.sqrt((1 / 64 + 1 / 256) * 2)))


def test_numbers_beyond_floats_leave_nothing_to_expect() -> None:
    steps = [step(number, [1e200 * (number % 2)] * 8, spread=1e-170) for number in range(9)]
    found = expected(steps, UNITS, 256)
    assert all(known is not None and known.error == math.inf for known in found)


def test_errors_are_as_large_as_they_are_said_to_be() -> None:
    """200 worlds without drift: a 95 % interval, widened by the drift of 1/8, holds in 96 % of cases.

    1,600 cases, eight to a world, are independent: fewer than 93 or more than 99 % have a chance below
    1e-6.
    """
    inside = 0
    for seed in range(200):
        draw = torch.Generator().manual_seed(seed)
        true = torch.rand(8, generator=draw, dtype=torch.float64)

        def mean(
            samples: int, draw: torch.Generator = draw, true: torch.Tensor = true
        ) -> list[float]:
            noise = torch.randn(8, samples, generator=draw, dtype=torch.float64)
            return [float(m) for m in true + 2.0 * noise.mean(1)]

        steps = [step(number, mean(64)) for number in range(6)]
        found = expected(steps, UNITS, 256)
        for known, now in zip(found, mean(256), strict=True):
            assert known is not None
            inside += abs(known.change - now) < 1.96 * known.error
    assert 0.93 * 1600 <= inside <= 0.99 * 1600

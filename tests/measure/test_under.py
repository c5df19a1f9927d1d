"""Ceilings that scatter: few measurements, and none that held by luck alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import nn

import secateur as sec
from secateur.cost import macs
from secateur.errors import BudgetError, PlanError
from secateur.measure import Dial, Measured, search
from secateur.measure.trial import Walk
from secateur.types.budget import Budget, parse
from tests.handmade import channels, net

MODEL = net(40, 40)
GROUPS = channels(MODEL)
SCORES = sec.Scores(
    {"a": {g.name: torch.rand(g.size, generator=torch.Generator().manual_seed(3)) for g in GROUPS}}
)


def at(budgets: Sequence[Budget]) -> sec.Plan:
    return sec.allocate(GROUPS, SCORES, sec.Ranked("a"), list(budgets))


def share(plan: sec.Plan) -> float:
    return macs(GROUPS, plan.masks) / macs(GROUPS)


def timed(of: Callable[[float, int], float], margin: float = 0.0) -> Measured:
    """A latency of a dense second; `of` says it by share and by how many were taken before."""
    taken = 0

    def read(plan: sec.Plan, _: nn.Module) -> tuple[float, float]:
        nonlocal taken
        taken += 1
        return 1.0, of(share(plan), taken - 1)

    return Measured(parse("latency=0.5"), read, margin, noisy=True)


@pytest.mark.parametrize("base", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("guess", [None, 0.5, 0.05, 0.95])
def test_a_straight_line_takes_few_measurements(base: float, guess: float | None) -> None:
    plan = search(MODEL, at, [timed(lambda s, _: base + (1 - base) * s)], dial=Dial(guess=guess))
    reached = base + (1 - base) * share(plan)
    assert 0.46 < reached <= 0.5
    assert len(plan.about["search"]) <= 6


def test_a_staircase_is_climbed() -> None:
    plan = search(MODEL, at, [timed(lambda s, _: 0.2 + 0.2 * int(s * 4.999))])
    assert 0.2 < share(plan) <= 0.4  # the second step ends there
    assert share(plan) > 0.36


def test_a_plateau_just_above_the_ceiling_does_not_end_at_the_smallest_plan() -> None:
    plan = search(MODEL, at, [timed(lambda s, _: 0.51 if s > 0.1 else 0.2 + s)])
    assert 0.05 < share(plan) <= 0.1


def test_a_ceiling_that_the_dense_network_keeps_removes_nothing() -> None:
    kept = Measured(parse("latency=2s"), lambda plan, _: (1.0, share(plan)), noisy=True)
    with pytest.raises(PlanError, match="nothing needs to go"):
        search(MODEL, at, [kept])


def test_what_held_by_luck_is_measured_again() -> None:
    """The first measurement of every plan is a tenth too low: one is taken whose next holds as well."""
    seen: list[float] = []

    def lucky(s: float, _: int) -> float:
        seen.append(s)
        return s * (0.9 if seen.count(s) == 1 else 1.0)

    plan = search(MODEL, at, [timed(lucky)])
    last = plan.about["search"][-1]
    assert last["macs"] == share(plan)
    assert last["latency"] == pytest.approx(share(plan))
    assert share(plan) <= 0.5


@pytest.mark.parametrize(("first", "times"), [(0.505, 1), (0.499, 3), (0.485, 3), (0.475, 1)])
def test_what_is_as_near_as_readings_scatter_is_read_three_times(first: float, times: int) -> None:
    """Of three readings two are far off, in both directions: the middle one decides."""
    taken: list[float] = []

    def read(plan: sec.Plan, _: nn.Module) -> tuple[float, float]:
        taken.append(share(plan))
        return 1.0, first * (1.0, 1.5, 0.5)[len(taken) - 1]

    one = Measured(parse("latency=0.5"), read, 0.02, noisy=True)
    walk = Walk(MODEL, at, (), Dial(), lambda _done, _seen: None)
    ((_, _, reached),) = walk.trial(walk.plan(0.5), [one]).readings
    assert reached == pytest.approx(first)
    assert len(taken) == times


def test_the_margin_is_kept() -> None:
    plan = search(MODEL, at, [timed(lambda s, _: s, margin=0.1)])
    assert share(plan) <= 0.5 / 1.1


def test_out_of_reach_is_known_after_the_smallest() -> None:
    with pytest.raises(BudgetError, match="smallest network") as caught:
        search(MODEL, at, [timed(lambda s, _: 0.6 + 0.4 * s)])
    assert caught.value.nearest == pytest.approx(0.6, abs=0.01)

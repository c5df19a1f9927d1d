"""Groups of which more than one unit must stay."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.allocate import Allocator, Ranked, Tolerance, Uniform, allocate
from secateur.compose.candidates import candidates
from secateur.compose.steps import Step, Tried, masks_after
from secateur.errors import BudgetError, PlanError
from secateur.types import Groups, Least, Scores
from tests import handmade


def _groups(*least: int) -> Groups:
    groups = handmade.channels(handmade.Net())
    made = [
        replace(group, least=Least(n, "so many")) for group, n in zip(groups, least, strict=True)
    ]
    return replace(groups, groups=tuple(made))


def _scores(groups: Groups, seed: int) -> Scores:
    own = torch.Generator().manual_seed(seed)
    by_name = {
        name: {g.name: torch.randn(g.size, generator=own) for g in groups} for name in ("a", "b")
    }
    return Scores(by_name)


HOW = [
    Uniform("a"),
    Ranked("a"),
    Ranked("a", floor=2),
    Ranked("a", round_to=2),
    Tolerance("a", "b"),
]


@given(st.sampled_from(HOW), st.integers(1, 6), st.integers(1, 8), st.integers(0, 99), st.data())
def test_they_stay(how: Allocator, one: int, other: int, seed: int, data: st.DataObject) -> None:
    groups = _groups(one, other)
    share = data.draw(st.floats(0.1, 0.9))
    try:
        plan = allocate(groups, _scores(groups, seed), how, f"units={share}")
    except (BudgetError, PlanError):  # no fewer may stay, or nothing may go
        return
    for group in groups:
        assert int(plan.masks[group.name].sum()) >= group.least.units
    assert plan.removed


def test_the_nearest_that_can_be_reached() -> None:
    groups = _groups(4, 3)
    with pytest.raises(BudgetError, match=r"the smallest is units=0\.5") as caught:
        allocate(groups, _scores(groups, 0), Ranked("a"), "units=0.1")
    assert caught.value.nearest == 7 / 14


def test_the_oracle_asks_for_none_of_them() -> None:
    groups = _groups(6, 7)
    masks = {group.name: torch.ones(group.size, dtype=torch.bool) for group in groups}
    first, second = groups
    scores = {"a": {g.name: torch.arange(g.size).float() for g in groups}}

    assert {c.group for c in candidates(groups, scores, masks)} == {second.name}
    masks[second.name][0] = False
    assert candidates(groups, scores, masks) == []
    for group in (first, second):
        gone = [Step(0, (Tried(group.name, 0, "a", 1.0, 1),), 0, 1.0, 1, 13)]
        if group is first:
            with pytest.raises(PlanError, match="one of the last units"):
                masks_after(groups, gone)
        else:
            assert int(masks_after(groups, gone)[group.name].sum()) == 7

"""Records of the oracle: to JSON and back, and from records to masks."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.compose.steps import Step, Tried, masks_after
from secateur.errors import FileError, PlanError
from tests.handmade import rows

FINITE = st.floats(allow_nan=False, allow_infinity=False)
WORDS = st.text(max_size=8)
SPREADS = st.floats(0.0, 1e300)
TRIED = st.builds(
    Tried, WORDS, st.integers(0, 99), WORDS, FINITE, st.integers(1, 99), spread=SPREADS
)
STEPS = st.builds(
    Step,
    st.integers(0, 99),
    st.lists(TRIED, min_size=1, max_size=4).map(tuple),
    st.just(0),
    FINITE,
    st.integers(99, 999),
    st.integers(1, 999),
    st.lists(WORDS, max_size=3).map(tuple),
    st.lists(WORDS, max_size=3).map(tuple),
)


def removal(step: int, group: str, unit: int, left: int) -> Step:
    return Step(step, (Tried(group, unit, "m", 0.5, 8),), 0, 0.4, 8, left)


@given(STEPS)
def test_a_step_survives_a_line_of_json(step: Step) -> None:
    assert Step.from_json(json.loads(json.dumps(step.to_json()))) == step


def test_other_keys_of_a_journal_are_ignored() -> None:
    step = removal(0, "g0", 1, 4)
    assert Step.from_json({**step.to_json(), "time": "now", "chain": "f00"}) == step


@pytest.mark.parametrize(
    "change",
    [
        {"tried": []},
        {"tried": None},
        {"tried": [{"group": "g0"}]},
        {"chosen": 1},
        {"chosen": -1},
        {"step": "first"},
        {"present": float("nan")},
        {"proven": 3},
    ],
)
def test_what_is_no_step_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(FileError, match="no step"):
        Step.from_json({**removal(0, "g0", 1, 4).to_json(), **change})


@pytest.mark.parametrize(
    "change",
    [{"spread": -1.0}, {"spread": math.inf}, {"spread": math.nan}, {"spread": "wide"}],
)
def test_a_spread_that_nothing_can_have_is_refused(change: dict[str, Any]) -> None:
    entry = removal(0, "g0", 1, 4).to_json()
    entry["tried"][0] |= change
    with pytest.raises(FileError, match="no step"):
        Step.from_json(entry)


@pytest.mark.parametrize(
    "change", [{"samples": -3}, {"samples": 9}, {"samples": 0, "chosen": True}]
)
def test_more_samples_than_were_drawn_or_none_for_the_chosen_are_refused(
    change: dict[str, Any],
) -> None:
    entry = removal(0, "g0", 1, 4).to_json()
    entry["tried"][0] |= change
    with pytest.raises(FileError, match="no step"):
        Step.from_json(entry)


def test_journals_from_before_spreads_were_told_are_read() -> None:
    step = removal(0, "g0", 1, 4)
    entry = step.to_json()
    del entry["tried"][0]["spread"]
    assert Step.from_json(entry) == step


def test_a_missing_key_is_refused() -> None:
    for key in removal(0, "g0", 1, 4).to_json():
        entry = removal(0, "g0", 1, 4).to_json()
        del entry[key]
        with pytest.raises(FileError):
            Step.from_json(entry)


def test_a_candidate_that_was_given_up_cannot_have_been_chosen() -> None:
    entry = removal(0, "g0", 1, 4).to_json()
    entry["tried"][0]["out"] = True
    with pytest.raises(FileError):
        Step.from_json(entry)


def test_masks_follow_the_choices() -> None:
    steps = [removal(0, "g0", 1, 4), removal(1, "g1", 0, 3)]
    masks = masks_after(rows([3, 2]), steps)
    assert masks["g0"].tolist() == [True, False, True]
    assert masks["g1"].tolist() == [False, True]
    assert all(bool(mask.all()) for mask in masks_after(rows([3, 2]), []).values())


@pytest.mark.parametrize(
    "steps",
    [
        [removal(1, "g0", 1, 4)],
        [removal(0, "g0", 1, 4), removal(2, "g0", 0, 3)],
        [removal(0, "g9", 1, 4)],
        [removal(0, "g0", 3, 4)],
        [removal(0, "g0", -1, 4)],
        [removal(0, "g0", 1, 4), removal(1, "g0", 1, 3)],
        [removal(0, "g1", 0, 4), removal(1, "g1", 1, 3)],
        [removal(0, "g0", 1, 7)],
    ],
)
def test_journals_of_other_groups_or_with_gaps_are_refused(steps: list[Step]) -> None:
    with pytest.raises(PlanError):
        masks_after(rows([3, 2]), steps)


def test_masks_are_fresh() -> None:
    groups = rows([3])
    one, two = masks_after(groups, []), masks_after(groups, [])
    one["g0"][0] = False
    assert torch.equal(two["g0"], torch.ones(3, dtype=torch.bool))

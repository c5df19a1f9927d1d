"""Round-robin: rank 1 of each metric in turn, then rank 2, each unit once."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from secateur.compose.candidates import Candidate, candidates
from secateur.errors import OptionError, ScoreError
from secateur.types import Groups
from tests.handmade import rows

Table = dict[str, dict[str, Tensor]]


def everything(groups: Groups) -> dict[str, Tensor]:
    return {group.name: torch.ones(group.size, dtype=torch.bool) for group in groups}


@st.composite
def cases(draw: st.DrawFn) -> tuple[Groups, Table, dict[str, Tensor], int]:
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    groups = rows(sizes)
    values = st.integers(-3, 3)  # few values: many ties
    scores = {
        metric: {
            g.name: torch.tensor(draw(st.lists(values, min_size=g.size, max_size=g.size))).float()
            for g in groups
        }
        for metric in draw(st.sampled_from([["a"], ["a", "b"], ["c", "a", "b"]]))
    }
    masks = {}
    for g in groups:
        alive = draw(st.lists(st.booleans(), min_size=g.size, max_size=g.size))
        masks[g.name] = torch.tensor(alive)
        masks[g.name][draw(st.integers(0, g.size - 1))] = True
    return groups, scores, masks, draw(st.integers(1, 25))


def plainly(groups: Groups, scores: Table, masks: dict[str, Tensor], k: int) -> list[Candidate]:
    """The definition, with lists."""
    free = [
        (i, unit, group.name)
        for i, group in enumerate(groups)
        for unit in range(group.size)
        if masks[group.name][unit] and masks[group.name].sum() > 1
    ]
    ranked = {
        metric: sorted(free, key=lambda at: (float(table[at[2]][at[1]]), at[0], at[1]))
        for metric, table in scores.items()
    }
    found: dict[tuple[str, int], str] = {}
    for rank, metric in itertools.product(range(len(free)), scores):
        _, unit, name = ranked[metric][rank]
        if len(found) < k:
            found.setdefault((name, unit), metric)
    return [Candidate(name, unit, metric) for (name, unit), metric in found.items()]


@given(cases())
def test_it_is_the_plain_twin(case: tuple[Groups, Table, dict[str, Tensor], int]) -> None:
    assert candidates(*case) == plainly(*case)


@given(cases())
def test_there_are_k_of_them_or_all_that_may_go(
    case: tuple[Groups, Table, dict[str, Tensor], int],
) -> None:
    groups, _scores, masks, k = case
    found = candidates(*case)
    left = [int(masks[g.name].sum()) for g in groups]
    assert len(found) == min(k, sum(n for n in left if n > 1))
    assert len({(c.group, c.unit) for c in found}) == len(found)
    assert all(masks[c.group][c.unit] for c in found)


@given(cases())
def test_increasing_transforms_change_nothing(
    case: tuple[Groups, Table, dict[str, Tensor], int],
) -> None:
    groups, scores, masks, k = case
    transforms = [torch.exp, lambda x: 5 * x - 2, lambda x: x**3]
    moved = {
        metric: {name: transform(values) for name, values in scores[metric].items()}
        for metric, transform in zip(scores, transforms, strict=False)
    }
    assert candidates(groups, moved, masks, k) == candidates(*case)


def test_metrics_take_turns() -> None:
    groups = rows([4])
    scores = {
        "up": {"g0": torch.tensor([1.0, 2.0, 3.0, 4.0])},
        "down": {"g0": torch.tensor([4.0, 3.0, 2.0, 1.0])},
        "same": {"g0": torch.tensor([1.0, 2.0, 3.0, 4.0])},
    }
    found = candidates(groups, scores, everything(groups), 4)
    assert [(c.unit, c.proposer) for c in found] == [
        (0, "up"),
        (3, "down"),
        (1, "up"),
        (2, "down"),
    ]


def test_ties_go_to_the_earlier_group_and_the_lower_index() -> None:
    groups = rows([2, 3])
    scores = {"m": {"g1": torch.zeros(3), "g0": torch.zeros(2)}}
    found = candidates(groups, scores, everything(groups), 5)
    assert [(c.group, c.unit) for c in found] == [
        ("g0", 0),
        ("g0", 1),
        ("g1", 0),
        ("g1", 1),
        ("g1", 2),
    ]


def test_the_last_unit_of_a_group_is_no_candidate_and_scores_of_the_gone_do_not_matter() -> None:
    groups = rows([2, 2])
    masks = everything(groups)
    masks["g0"][1] = False
    scores = {"m": {"g0": torch.tensor([0.0, float("nan")]), "g1": torch.ones(2)}}
    assert {c.group for c in candidates(groups, scores, masks, 9)} == {"g1"}


@pytest.mark.parametrize("k", [0, -1, 1.0, True, "4"])
def test_k_is_a_number_from_1(k: int) -> None:
    groups = rows([3])
    with pytest.raises(OptionError, match="none"):
        candidates(groups, {"m": {"g0": torch.ones(3)}}, everything(groups), k)


@pytest.mark.parametrize(
    ("scores", "error"),
    [
        ({}, OptionError),
        ({"m": {}}, ScoreError),
        ({"m": {"g0": torch.ones(2)}}, ScoreError),
        ({"m": {"g0": torch.tensor([0.0, float("nan"), 1.0])}}, ScoreError),
    ],
)
def test_scores_that_cannot_be_used_are_named(scores: Table, error: type[Exception]) -> None:
    groups = rows([3])
    with pytest.raises(error):
        candidates(groups, scores, everything(groups), 2)


def test_patterns_are_refused() -> None:
    groups = rows([4], pattern=(2, 4))
    with pytest.raises(OptionError, match="2 of every 4"):
        candidates(groups, {"m": {"g0": torch.ones(4)}}, everything(groups), 2)

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.compose import Scope, Veto
from secateur.errors import OptionError, ScoreError
from tests.compose.drawn import FLOATS, NEIGHBOURS, TIES, A, B, Row, flat, ranks, rows

SHARES = st.floats(0.01, 0.99)


def protected(by: list[float], share: float) -> list[bool]:
    """The slow twin: fewer units score higher than the share has places."""
    places = math.ceil(round(share * len(by), 9))
    return [sum(other > x for other in by) < places for x in by]


@pytest.mark.parametrize("scope", Scope)
@given(scores=rows(2, FLOATS | TIES | NEIGHBOURS), share=SHARES)
def test_the_top_of_one_stands_above_and_the_order_of_the_other_stays(
    scope: Scope, scores: list[Row], share: float
) -> None:
    found = Veto(A, by=B, share=share, scope=scope).combine(scores)
    assert all(values.dtype == torch.float32 for values in found.values())
    if scope is Scope.GROUP:
        lifted = [up for by in scores[1].values() for up in protected(by.tolist(), share)]
    else:
        lifted = protected(flat(scores[1]).tolist(), share)
    up, values, base = torch.tensor(lifted), flat(found), flat(scores[0])
    assert bool(up.any())
    assert ranks(values[up]) == ranks(base[up])
    assert ranks(values[~up]) == ranks(base[~up])
    if not bool(up.all()):
        assert float(values[~up].max()) < float(values[up].min())


def test_by_hand() -> None:
    base = {"g": torch.tensor([0.0, 1.0, 2.0, 4.0]), "h": torch.tensor([3.0, 0.0])}
    by = {"g": torch.tensor([9.0, 8.0, 7.0, 6.0]), "h": torch.tensor([1.0, 2.0])}
    found = Veto(A, B, 0.5).combine([base, by])
    assert found["g"].tolist() == pytest.approx([8 / 12, 9 / 12, 2 / 12, 4 / 12])
    assert found["h"].tolist() == pytest.approx([3 / 12, 8 / 12])
    wide = Veto(A, B, 0.5, Scope.NETWORK).combine([base, by])
    assert wide["g"].tolist() == pytest.approx([8 / 12, 9 / 12, 10 / 12, 4 / 12])
    assert wide["h"].tolist() == pytest.approx([3 / 12, 0.0])


@pytest.mark.parametrize(
    ("size", "share", "count"),
    [
        (100, 0.07, 7),
        (100, 0.29, 29),
        (10, 0.1, 1),
        (10, 0.01, 1),
        (10, 0.95, 10),
        (1, 0.5, 1),
        (5, 1e-15, 1),
    ],
)
def test_the_share_is_rounded_up_and_never_by_the_computer(
    size: int, share: float, count: int
) -> None:
    scores = {"g": torch.arange(size).float()}
    found = Veto(A, B, share).combine([{"g": torch.rand(size)}, scores])["g"]
    assert (found > 0.5).tolist() == [False] * (size - count) + [True] * count


def test_equal_units_on_the_border_are_all_protected() -> None:
    by = {"g": torch.tensor([5.0, 1.0, 1.0, 1.0, 0.0])}
    found = Veto(A, B, 0.4).combine([{"g": torch.arange(5.0)}, by])["g"]
    assert (found >= 0.5).tolist() == [True, True, True, True, False]


@given(rows(2, FLOATS), SHARES)
def test_a_judge_without_an_opinion_changes_nothing(scores: list[Row], share: float) -> None:
    constant = {group: torch.ones(len(values)) for group, values in scores[0].items()}
    found = Veto(A, B, share).combine([scores[0], constant])
    assert ranks(flat(found)) == ranks(flat(scores[0]))


@given(rows(2, FLOATS | TIES))
def test_a_larger_share_protects_no_fewer(scores: list[Row]) -> None:
    few, many = (Veto(A, B, share).combine(scores) for share in (0.2, 0.6))
    for group in few:
        assert bool(((few[group] >= 0.5) <= (many[group] >= 0.5)).all())


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 2, 10, math.nan, "0.1", None, True])
def test_a_share_is_a_fraction(share: float) -> None:
    with pytest.raises(OptionError, match="no fraction between 0 and 1") as caught:
        Veto(A, B, share)
    assert "share=0.1" in caught.value.hint


def test_what_is_left_out_is_told() -> None:
    for made in (lambda: Veto(A), lambda: Veto(A, share=0.1)):
        with pytest.raises(OptionError, match="nothing says what is protected") as caught:
            made()
        assert "by=" in caught.value.hint
    with pytest.raises(OptionError, match="share=None is no fraction"):
        Veto(A, B)


def test_a_scope_is_no_text() -> None:
    with pytest.raises(OptionError, match="no scope"):
        Veto(A, B, 0.1, "network")  # type: ignore[arg-type]


def test_a_part_that_is_not_finite_is_named() -> None:
    with pytest.raises(ScoreError) as caught:
        Veto(A, B, 0.1).combine([{"g": torch.ones(1)}, {"g": torch.tensor([torch.nan])}])
    assert caught.value.where == "b, g"


def test_no_groups_and_no_units() -> None:
    for scope in Scope:
        assert Veto(A, B, 0.1, scope).combine([{}, {}]) == {}
        empty = {"g": torch.zeros(0)}
        assert Veto(A, B, 0.1, scope).combine([empty, empty])["g"].shape == (0,)

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.compose import MinMax, Product, Rank
from secateur.errors import ScoreError
from tests.compose.drawn import POSITIVE, A, B, C, Row, flat, rows


def twin(scores: list[Row]) -> dict[str, list[float]]:
    """The slow twin: divided by the maximum per group, by logarithms."""
    means: dict[str, list[float]] = {}
    for group in scores[0]:
        shares = []
        for part in scores:
            values = part[group].tolist()
            shares.append([x / max(values) if max(values) else 0.0 for x in values])
        means[group] = [
            math.exp(sum(map(math.log, unit)) / len(unit)) if all(unit) else 0.0
            for unit in zip(*shares, strict=True)
        ]
    return means


@given(rows(3, POSITIVE))
def test_it_is_the_geometric_mean(scores: list[Row]) -> None:
    found = (A * B * C).combine(scores)
    for group, expected in twin(scores).items():
        assert found[group].dtype == torch.float32
        assert found[group].tolist() == pytest.approx(expected, rel=1e-6, abs=1e-44)


def test_by_hand() -> None:
    first = {"g": torch.tensor([0.0, 4.0, 16.0])}
    second = {"g": torch.tensor([9.0, 9.0, 1.0])}
    assert (A * B).combine([first, second])["g"].tolist() == pytest.approx([0, 1 / 2, 1 / 3])
    assert (A * B).normalised(MinMax()).combine([first, second])["g"].tolist() == [0.0, 0.5, 0.0]


@given(rows(2, st.integers(0, 999).map(float)), st.integers(-20, 20))
def test_no_factors_scale_matters(scores: list[Row], power: int) -> None:
    scaled = {group: values * 2.0**power for group, values in scores[0].items()}
    found = (A * B).combine([scaled, scores[1]])
    assert torch.equal(flat(found), flat((A * B).combine(scores)))


@given(rows(2, POSITIVE))
def test_the_order_of_the_factors_does_not_matter(scores: list[Row]) -> None:
    turned = (B * A).combine(scores[::-1])
    torch.testing.assert_close((A * B).combine(scores), turned, rtol=1e-6, atol=0.0)


def test_small_numbers_do_not_vanish() -> None:
    """Their product is no float32 number, and would tie with a dead unit."""
    scores = {"g": torch.tensor([0.0, 1e-30, 2e-30, 1.0])}
    found = Product(A, B, C).combine([scores] * 3)["g"]
    assert found.tolist() == pytest.approx([0.0, 1e-30, 2e-30, 1.0])


def test_scores_below_zero_are_refused_until_they_are_brought_above() -> None:
    fine, below = {"g": torch.tensor([1.0, 2.0])}, {"g": torch.tensor([-1.0, 2.0])}
    with pytest.raises(ScoreError, match="below zero") as caught:
        (A * B).combine([fine, below])
    assert caught.value.where == "b, g"
    assert "MinMax()" in caught.value.hint
    for how in (MinMax(), Rank()):
        assert (A * B).normalised(how).combine([fine, below])["g"].tolist() == [0.0, 1.0]


def test_no_groups() -> None:
    assert (A * B).combine([{}, {}]) == {}

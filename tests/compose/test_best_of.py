from __future__ import annotations

import pytest
import torch
from hypothesis import given

from secateur.compose import BestOf, MinMax, Rank, Scope
from secateur.errors import ScoreError
from tests.compose.drawn import FLOATS, TIES, A, B, C, Row, rows


@given(rows(3, FLOATS | TIES))
def test_it_is_the_highest_of_the_normalised_scores(scores: list[Row]) -> None:
    for how in (MinMax(), Rank(Scope.NETWORK)):
        found = BestOf(A, B, C, normalisation=how).combine(scores)
        scaled = [how(part) for part in scores]
        for group, values in found.items():
            assert values.dtype == torch.float32
            expected = [max(float(part[group][i]) for part in scaled) for i in range(len(values))]
            assert values.tolist() == torch.tensor(expected).tolist()


def test_by_hand() -> None:
    first = {"g": torch.tensor([0.0, 1.0, 10.0, 2.0])}
    second = {"g": torch.tensor([4.0, 2.0, 0.0, 1.0])}
    assert BestOf(A, B).combine([first, second])["g"].tolist() == [1.0, 0.5, 1.0, 0.25]
    ranked = BestOf(A, B).normalised(Rank())
    assert ranked == BestOf(A, B, normalisation=Rank())
    assert (
        ranked.combine([first, second])["g"].tolist() == torch.tensor([3, 2, 3, 2]).div(3).tolist()
    )


@given(rows(2, FLOATS))
def test_every_advocate_is_heard_and_their_order_does_not_matter(scores: list[Row]) -> None:
    best, turned = BestOf(A, B).combine(scores), BestOf(B, A).combine(scores[::-1])
    for group, values in best.items():
        assert torch.equal(values, turned[group])
        for part in scores:
            assert bool((values >= MinMax()(part)[group].float()).all())


def test_a_part_that_is_not_finite_is_named() -> None:
    with pytest.raises(ScoreError) as caught:
        BestOf(A, B).combine([{"g": torch.ones(1)}, {"g": torch.tensor([torch.inf])}])
    assert caught.value.where == "b, g"

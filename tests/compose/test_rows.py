from __future__ import annotations

import math

import pytest
import torch

from secateur.compose.rows import aligned, checked
from secateur.errors import ScoreError
from tests.compose.drawn import A, B


def test_what_is_stored_is_float32() -> None:
    given = torch.tensor([1.0, 1.0 + 1e-12], dtype=torch.float64, requires_grad=True)
    found = checked({"g": given})["g"]
    assert found.dtype == torch.float32
    assert not found.requires_grad
    assert found[0] == found[1]


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, 1e39])
def test_what_is_not_finite_is_refused_with_its_group(wrong: float) -> None:
    scores = {"g": torch.ones(2), "h": torch.tensor([1.0, wrong], dtype=torch.float64)}
    with pytest.raises(ScoreError, match=r"^a, h: a score is NaN, infinite") as caught:
        checked(scores, A)
    assert caught.value.where == "a, h"


def test_a_matrix_of_scores_is_refused() -> None:
    with pytest.raises(ScoreError, match=r"g: has scores of shape \(2, 2\)"):
        checked({"g": torch.ones(2, 2)})


def test_rows_come_in_the_order_of_the_first() -> None:
    first = {"g": torch.ones(1), "h": torch.ones(2)}
    second = {"h": torch.zeros(2), "g": torch.zeros(1)}
    assert [list(row) for row in aligned((A, B), [first, second])] == [["g", "h"]] * 2


@pytest.mark.parametrize(
    "second",
    [
        {"g": torch.ones(1)},
        {"g": torch.ones(1), "h": torch.ones(3)},
        {"g": torch.ones(1), "i": torch.ones(2)},
        {},
    ],
)
def test_parts_of_other_units_are_refused(second: dict[str, torch.Tensor]) -> None:
    first = {"g": torch.ones(1), "h": torch.ones(2)}
    with pytest.raises(ScoreError, match=r"other units than a, in .*[hi]") as caught:
        aligned((A, B), [first, second])
    assert caught.value.where == "b"


def test_one_row_for_each_part() -> None:
    with pytest.raises(ScoreError, match="2 parts, but 1 rows"):
        aligned((A, B), [{"g": torch.ones(1)}])

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from secateur.allocate import overlaps, tolerance_of_difference
from secateur.allocate.tolerance_of_difference import places, smallest_alphas
from tests.allocate import plain_tolerance as plain

TIES = st.sampled_from([-1.0, -0.0, 0.0, 0.5, 2.0])
VALUES = TIES | st.floats(-10, 10, width=32)
ALPHAS = st.sampled_from([0.0, 0.05, 0.1, 0.2, 0.25, 1 / 3, 0.5, 2 / 3, 1.0]) | st.floats(0, 1)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[list[float], list[float]]:
    size = draw(st.integers(1, 30))
    values = draw(st.sampled_from([TIES, VALUES]))
    removal, protect = (draw(st.lists(values, min_size=size, max_size=size)) for _ in range(2))
    return removal, protect


def depth(removal: Tensor, protect: Tensor, alpha: float) -> int:
    """m*(alpha) of one layer."""
    may = torch.arange(1, int(0.99 * len(removal)) + 1)
    return int((smallest_alphas(removal, protect, may) <= alpha).sum())


@given(pairs())
def test_it_agrees_with_the_sets_of_its_definition(pair: tuple[list[float], list[float]]) -> None:
    removal, protect = pair
    found = tolerance_of_difference(torch.tensor(removal), torch.tensor(protect)).tolist()
    assert found == [plain.difference(removal, protect, m) for m in range(1, len(removal) + 1)]


@given(pairs(), ALPHAS)
def test_the_depth_is_the_largest_that_holds(
    pair: tuple[list[float], list[float]], alpha: float
) -> None:
    removal, protect = pair
    may = plain.allowed(len(removal))
    found = depth(torch.tensor(removal), torch.tensor(protect), alpha)
    assert found == plain.depth(removal, protect, alpha, may)


def test_a_depth_beyond_one_that_does_not_hold_still_counts() -> None:
    # units 0, 1, ... leave in this order; unit 0 is protected first, then those that leave last
    removal, protect = torch.arange(10.0), torch.arange(10.0)
    protect[0] = 100.0
    found = tolerance_of_difference(removal, protect)
    assert found[:5].tolist() == [1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 5]
    assert depth(removal, protect, 0.2) == 5
    assert depth(removal, protect, 0.19) == 0


@given(pairs(), ALPHAS, ALPHAS)
def test_property_1_the_depth_rises_with_alpha_up_to_the_bound(
    pair: tuple[list[float], list[float]], one: float, other: float
) -> None:
    removal, protect = map(torch.tensor, pair)
    size, low, high = len(removal), min(one, other), max(one, other)
    assert depth(removal, protect, low) <= depth(removal, protect, high)
    bound = Fraction(size) / (2 - Fraction(high).limit_denominator(10**6))
    assert depth(removal, protect, high) <= bound + Fraction(1, 1000)
    assert depth(removal, protect, 1.0) == int(0.99 * size)


@pytest.mark.parametrize("size", [1, 2, 3, 10, 64, 101, 300])
@pytest.mark.parametrize("alpha", [0.0, 0.05, 0.1, 0.5, 0.9])
def test_property_2_same_and_opposite_order(size: int, alpha: float) -> None:
    scores = torch.rand(size).argsort().float()
    bound = int(Fraction(size) / (2 - Fraction(str(alpha))))
    assert depth(scores, scores, alpha) == min(bound, int(0.99 * size))
    assert depth(scores, -scores, alpha) == 0


@pytest.mark.parametrize("alpha", [0.1, 0.3, 0.6])
def test_property_2_independent_orders(alpha: float) -> None:
    own = torch.Generator().manual_seed(0)
    size = 20_000
    found = depth(torch.rand(size, generator=own), torch.rand(size, generator=own), alpha)
    assert abs(found / size - alpha) < 0.03


@given(pairs(), ALPHAS)
def test_property_3_only_ranks_count(pair: tuple[list[float], list[float]], alpha: float) -> None:
    removal, protect = (torch.tensor(row, dtype=torch.float64) for row in pair)
    moved = removal**3 * 7 + removal - 5, protect * 0.25 + 3
    # rounding may make two scores equal; then nothing is claimed
    if all(
        len(a.unique()) == len(b.unique()) for a, b in zip(moved, (removal, protect), strict=False)
    ):
        assert torch.equal(
            tolerance_of_difference(*moved), tolerance_of_difference(removal, protect)
        )
        assert depth(*moved, alpha) == depth(removal, protect, alpha)


@given(pairs())
def test_the_smallest_alphas_never_fall_and_are_enough(
    pair: tuple[list[float], list[float]],
) -> None:
    removal, protect = map(torch.tensor, pair)
    may = torch.tensor(plain.allowed(len(removal), round_to=3), dtype=torch.int64)
    alphas = smallest_alphas(removal, protect, may).tolist()
    assert alphas == sorted(alphas)
    for m, alpha in zip(may.tolist(), alphas, strict=True):
        assert plain.depth(*pair, alpha, may.tolist()) >= m
        assert plain.depth(*pair, alpha - 1e-9, may.tolist()) < m


def test_constant_scores_are_the_same_order_twice() -> None:
    """Of equal scores the lower index comes first in both orders, so nothing is agreed on."""
    level = torch.ones(9)
    assert overlaps(level, level).tolist() == list(range(1, 10))
    assert depth(level, level, 0.99) == 0
    assert depth(level, level, 1.0) == 8


def test_equal_scores_put_the_lower_index_first() -> None:
    scores = torch.tensor([1.0, 0.0, 1.0, 0.0])
    assert places(scores).tolist() == [2, 0, 3, 1]
    assert places(scores, highest=True).tolist() == [0, 2, 1, 3]


def test_rows_are_taken_one_by_one() -> None:
    removal, protect = torch.rand(2, 3, 12), torch.rand(2, 3, 12)
    together = tolerance_of_difference(removal, protect)
    for i in range(2):
        for j in range(3):
            alone = tolerance_of_difference(removal[i, j], protect[i, j])
            assert torch.equal(together[i, j], alone)


def test_a_value_equals_an_alpha_that_is_written_as_the_same_fraction() -> None:
    scores = torch.arange(39.0)
    assert float(tolerance_of_difference(scores, scores)[19]) == 0.05  # 1 of 20 in common
    assert depth(scores, scores, 0.05) == 20
    assert depth(scores, scores, 0.0499999) == 19

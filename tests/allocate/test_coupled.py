from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.allocate import ByIndex, RankSum
from secateur.allocate.coupled import Coupled
from secateur.allocate.staircase import stairs
from tests.allocate import plain_tolerance as plain

ALPHAS = st.sampled_from([0.0, 0.1, 0.2, 1 / 3, 0.5, 2 / 3, 1.0]) | st.floats(0, 1)
Signals = tuple[list[list[float]], list[list[float]]]


@st.composite
def signals(draw: st.DrawFn) -> Signals:
    """Removal and protection scores of one to four layers."""
    layers, size = draw(st.integers(1, 4)), draw(st.integers(1, 16))
    values = st.sampled_from([0.0, 0.5, 1.0]) | st.floats(-10, 10, width=32)
    row = st.lists(values, min_size=size, max_size=size)
    rows = st.lists(row, min_size=layers, max_size=layers)
    return draw(rows), draw(rows)


def kept(found: Signals, alpha: float, coupled: Coupled) -> list[int]:
    removal, protect = ([torch.tensor(row) for row in signal] for signal in found)
    may = torch.tensor(plain.allowed(len(removal[0])), dtype=torch.int64)
    return stairs(removal, protect, may).mask(alpha, coupled).nonzero().flatten().tolist()


@given(signals(), ALPHAS)
def test_the_rank_sum_agrees_with_its_plain_twin(found: Signals, alpha: float) -> None:
    may = plain.allowed(len(found[0][0]))
    assert kept(found, alpha, RankSum()) == plain.kept_by_rank_sum(*found, alpha, may)


@given(signals(), ALPHAS)
def test_the_index_rule_agrees_with_its_plain_twin(found: Signals, alpha: float) -> None:
    may = plain.allowed(len(found[0][0]))
    assert kept(found, alpha, ByIndex()) == plain.kept_by_index(*found, alpha, may)


@given(signals(), ALPHAS, ALPHAS)
def test_by_rank_sum_what_has_left_stays_away(found: Signals, one: float, other: float) -> None:
    more, less = (set(kept(found, alpha, RankSum())) for alpha in sorted([one, other]))
    assert less <= more


def test_by_index_what_has_left_may_return() -> None:
    """Why `ByIndex` claims no nesting: one layer goes deeper, and a unit is back."""
    places = torch.tensor([[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]])
    shallow = ByIndex().kept(places, torch.tensor([2, 0]))  # one layer keeps all
    deeper = ByIndex().kept(places, torch.tensor([2, 2]))  # 2..5 and 0..3: the first four of all
    assert shallow.tolist() == [True] * 6
    assert deeper.tolist() == [True] * 4 + [False] * 2
    only_last = ByIndex().kept(places, torch.tensor([2, 5]))  # 2..5 and 0: the first four of those
    assert only_last.tolist() == [True, False, True, True, True, False]
    assert bool((only_last & ~deeper).any())  # unit 4 is back


def test_units_that_all_layers_keep_stay_if_they_are_enough() -> None:
    places = torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2]])
    assert ByIndex().kept(places, torch.tensor([2, 2])).tolist() == [False, False, True, True]
    assert RankSum().kept(places, torch.tensor([2, 2])).tolist() == [False, False, True, True]

"""Who is measured on what: the same winner as by measuring everything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from secateur.compose.expected import Expected
from secateur.compose.losses import Measured
from secateur.compose.race import Race, student
from secateur.compose.strategy import EarlyStop, Everything, Strategy, hardest_first
from secateur.errors import OptionError


@dataclass(frozen=True, slots=True)
class Sheet:
    """A contest whose losses stand in a table, (candidates, samples)."""

    table: Tensor
    present: Tensor
    piece: int = 4
    weights: Sequence[float] = ()
    known: Sequence[Expected | None] = ()
    asked: list[tuple[int, int]] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self.table)

    def losses(self, candidates: Sequence[int], rows: Tensor) -> Tensor:
        self.asked.extend((i, int(row)) for i in candidates for row in rows)
        return self.table[list(candidates)][:, rows]

    def value(self, candidate: int, loss: float) -> float:
        if not self.weights:
            return loss
        return (loss - float(self.present.mean())) / self.weights[candidate]

    def slack(self, loss: float) -> float:
        return 1e-9 * max(1.0, abs(loss))

    def expected(self, candidate: int) -> Expected | None:
        return self.known[candidate] if self.known else None


def winner(contest: Sheet, found: Sequence[Measured]) -> int:
    values = [contest.value(i, m.loss) if not m.out else math.inf for i, m in enumerate(found)]
    return values.index(min(values))


def truth(contest: Sheet) -> int:
    return winner(contest, [Measured(float(row.mean()), len(row)) for row in contest.table])


@st.composite
def sheets(draw: st.DrawFn, lowest: float = 0.0) -> Sheet:
    candidates, samples = draw(st.integers(1, 6)), draw(st.integers(1, 30))
    own = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    heavy = torch.rand(samples, generator=own, dtype=torch.float64).pow(8) * 10
    table = (heavy + draw(st.sampled_from([0.01, 0.3, 3.0])) * torch.randn(
        candidates, samples, generator=own, dtype=torch.float64
    )).clamp(min=lowest)  # fmt: skip
    weights = [draw(st.integers(1, 9)) for _ in range(candidates)]
    return Sheet(
        table,
        heavy.clamp(min=lowest),
        draw(st.integers(1, 9)),
        weights if draw(st.booleans()) else (),
    )


@given(sheets())
def test_an_early_stop_finds_the_best_and_never_measures_twice(contest: Sheet) -> None:
    found = EarlyStop().settle(contest)
    best, samples = truth(contest), contest.present.numel()
    assert winner(contest, found) == best
    assert found[best].samples == samples
    assert found[best].loss == pytest.approx(float(contest.table[best].mean()))
    assert len(set(contest.asked)) == len(contest.asked) == sum(m.samples for m in found)
    for row, measured in zip(contest.table, found, strict=True):
        assert measured.out == (measured.samples < samples)
        assert measured.loss <= float(row.mean()) + 1e-9  # a bound, or the loss itself


@given(sheets(lowest=-10.0))
def test_once_a_negative_loss_is_seen_nobody_is_cut_short(contest: Sheet) -> None:
    found = EarlyStop().settle(contest)
    seen = set(contest.asked)
    negative = [(i, j) for i, j in (contest.table < 0).nonzero().tolist()]
    unnoticed = all(place not in seen for place in negative)
    if not (negative and unnoticed):  # else it cannot be known, and the bound may be wrong
        assert winner(contest, found) == truth(contest)
    if not unnoticed:
        assert not any(measured.out for measured in found)


@given(sheets())
def test_everything_is_everything(contest: Sheet) -> None:
    for row, measured in zip(contest.table, Everything().settle(contest), strict=True):
        assert measured == Measured(pytest.approx(float(row.mean())), len(row))


def test_an_early_stop_stops_early() -> None:
    hard = torch.tensor([8.0] * 4 + [0.1] * 60).double()
    table = torch.stack([hard, hard + 1.0, hard + 2.0, hard * 3])
    contest = Sheet(table, hard)
    found = EarlyStop().settle(contest)
    assert [m.out for m in found] == [False, True, True, True]
    assert sum(m.samples for m in found[1:]) < 64


def test_the_hardest_come_first() -> None:
    present = torch.tensor([0.0, 5.0, 1.0, 5.0, 9.0])
    assert [part.tolist() for part in hardest_first(present, 2)] == [[1, 4], [2, 3], [0]]


def like_networks(seed: int, samples: int = 256, candidates: int = 16) -> Sheet:
    """Losses as a trained network has them: a few samples carry most, candidates move those most."""
    own = torch.Generator().manual_seed(seed)
    present = torch.randn(samples, generator=own, dtype=torch.float64).sub(3).mul(2).exp()
    effect = torch.rand(candidates, 1, generator=own, dtype=torch.float64).pow(2) * 0.3
    noise = torch.randn(candidates, samples, generator=own, dtype=torch.float64)
    factor = (effect * (0.3 + noise)).exp()
    return Sheet(present * factor, present, 32)


def test_a_race_finds_the_best_nearly_always_and_measures_less() -> None:
    right, asked, early = 0, 0, 0
    for seed in range(300):
        contest, other = like_networks(seed), like_networks(seed)
        found = Race().settle(contest)
        right += winner(contest, found) == truth(contest)
        assert len(set(contest.asked)) == len(contest.asked) == sum(m.samples for m in found)
        EarlyStop().settle(other)
        asked, early = asked + len(contest.asked), early + len(other.asked)
    assert right >= 297
    assert asked < 0.9 * early


def recalled(seed: int, wrong: float = 0.0) -> Sheet:
    """A contest whose candidates were measured before, on samples of the same kind."""
    own = torch.Generator().manual_seed(seed)
    effect = torch.rand(16, 1, generator=own, dtype=torch.float64) * 0.3

    def sheet(samples: int) -> Sheet:
        present = torch.randn(samples, generator=own, dtype=torch.float64).sub(1).exp()
        noise = torch.randn(16, samples, generator=own, dtype=torch.float64)
        return Sheet(present * (effect * (1 + noise)).exp(), present, 32)

    changes = (before := sheet(128)).table - before.present
    errors = changes.std(1) * math.sqrt(1 / 128 + 1 / 256)
    now = sheet(256)
    known = [
        Expected(change + wrong * error, error)
        for change, error in zip(changes.mean(1).tolist(), errors.tolist(), strict=True)
    ]
    return Sheet(now.table, now.present, 32, known=known)


def test_a_race_that_recalls_finds_the_best_and_measures_less() -> None:
    right, asked, without = 0, 0, 0
    for seed in range(300):
        contest, other = recalled(seed), recalled(seed)
        found = Race().settle(contest)
        right += winner(contest, found) == truth(contest)
        assert len(set(contest.asked)) == len(contest.asked) == sum(m.samples for m in found)
        Race(recall=False).settle(other)
        asked, without = asked + len(contest.asked), without + len(other.asked)
    assert right >= 297
    assert asked < 0.8 * without


def test_a_race_that_recalls_weighs_as_the_objective_does() -> None:
    weights = [1 + i % 4 for i in range(16)]
    right, left_out = 0, 0
    for seed in range(60):
        sheet = recalled(seed)
        contest = Sheet(sheet.table, sheet.present, 32, weights, sheet.known)
        found = Race().settle(contest)
        right += winner(contest, found) == truth(contest)
        left_out += sum(measured.samples == 0 for measured in found)
    assert right >= 59
    assert left_out > 60


def test_who_has_not_changed_any_sample_yet_is_not_given_up() -> None:
    """The best changes one easy sample for the better, the others all a little for the worse."""
    present = torch.linspace(2.0, 1.0, 256, dtype=torch.float64)
    table = present + torch.tensor([[1e-4], [0.0], [2e-4]])
    table[1, -1] -= 0.5
    contest = Sheet(table, present, 32)
    found = Race().settle(contest)
    assert winner(contest, found) == truth(contest) == 1
    assert found[1].spread == 0.0  # one sample tells no spread


def test_differences_that_rounding_makes_leave_nobody_out() -> None:
    sheet = like_networks(2)
    noise = 1e-13 * torch.arange(3, dtype=torch.float64)[:, None]
    contest = Sheet(sheet.table[:1] + noise, sheet.present, 32)
    assert not any(measured.out for measured in Race().settle(contest))


def test_losses_beyond_squares_can_race() -> None:
    sheet = like_networks(2)
    contest = Sheet(sheet.table * 1e200, sheet.present * 1e200, 32)
    found = Race().settle(contest)
    assert winner(contest, found) == truth(contest)
    assert all(measured.spread == 0.0 for measured in found)


def test_who_was_left_out_has_the_loss_that_was_expected() -> None:
    contest = recalled(3)
    found = Race().settle(contest)
    left_out = [i for i, measured in enumerate(found) if measured.samples == 0]
    assert left_out
    for i in left_out:
        known = contest.known[i]
        assert known is not None
        assert found[i] == Measured(float(contest.present.mean()) + known.change, 0, out=True)


def test_who_waits_is_called_when_the_leader_disappoints() -> None:
    sheet = like_networks(4, candidates=6)
    table = sheet.present + torch.tensor([[0.9], [0.5], [0.6], [0.7], [0.8], [0.9]])
    known = [Expected(0.0, 1e-3)] + [Expected(0.5, 1e-3)] * 5
    contest = Sheet(table, sheet.present, 32, known=known)
    found = Race().settle(contest)
    assert winner(contest, found) == 1
    assert all(measured.samples for measured in found)


def test_a_race_need_not_recall() -> None:
    lost = recalled(5, wrong=99.0)
    assert Race(recall=False).settle(lost) == Race().settle(Sheet(lost.table, lost.present, 32))


def test_spreads_of_a_race_are_those_of_the_samples() -> None:
    sheet = like_networks(2)
    contest = Sheet(sheet.table[:1].repeat(3, 1), sheet.present, 32)  # equal: seen to the end
    spread = float((sheet.table[0] - sheet.present).std(correction=0))
    assert [m.spread for m in Race().settle(contest)] == pytest.approx([spread] * 3)


def test_a_race_weighs_as_the_objective_does() -> None:
    weights = torch.arange(1, 17).tolist()
    sheets = [like_networks(seed) for seed in range(40)]
    weighed = [Sheet(s.table, s.present, 32, weights) for s in sheets]
    right = sum(winner(s, Race().settle(s)) == truth(s) for s in weighed)
    assert right >= 39


def test_estimates_of_a_race_are_near_the_truth() -> None:
    contest = like_networks(5)
    for row, measured in zip(contest.table, Race().settle(contest), strict=True):
        assert measured.loss == pytest.approx(float(row.mean()), rel=0.3)


@pytest.mark.parametrize("samples", [1, 10, 127])
def test_with_few_samples_a_race_is_an_early_stop(samples: int) -> None:
    one, two = like_networks(1, samples), like_networks(1, samples)
    assert Race().settle(one) == EarlyStop().settle(two)
    assert one.asked == two.asked


@pytest.mark.parametrize("candidates", [1, 2])
def test_few_candidates_can_race(candidates: int) -> None:
    contest = like_networks(3, candidates=candidates)
    assert winner(contest, Race().settle(contest)) == truth(contest)


def test_equal_candidates_are_measured_on_everything() -> None:
    sheet = like_networks(2)
    contest = Sheet(sheet.table[:1].repeat(3, 1), sheet.present, 32)
    assert all(m == Measured(m.loss, 256, spread=m.spread) for m in Race().settle(contest))
    assert truth(contest) == 0


@pytest.mark.parametrize("confidence", [0.0, 0.4, 1.0, 2.0, float("nan")])
def test_confidence_is_a_share(confidence: float) -> None:
    with pytest.raises(OptionError):
        Race(confidence)


@pytest.mark.parametrize("strategy", [Everything(), EarlyStop(), Race(0.9)])
def test_strategies_are_values(strategy: Strategy) -> None:
    assert eval(repr(strategy)) == strategy
    assert hash(strategy) == hash(eval(repr(strategy)))


@pytest.mark.parametrize(
    ("z", "freedom", "expected"),
    # tables of Student's distribution: 97.5 %, 99.5 %, 99.95 %
    [
        (1.959964, 10, 2.228),
        (1.959964, 1000, 1.962),
        (2.575829, 10, 3.169),
        (2.575829, 30, 2.750),
        (3.290527, 10, 4.587),
        (3.290527, 30, 3.646),
    ],
)
def test_quantiles_of_student_are_those_of_the_tables(
    z: float, freedom: float, expected: float
) -> None:
    assert student(z, freedom) == pytest.approx(expected, rel=2e-3)

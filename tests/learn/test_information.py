"""The measures of masks: known answers, slow plain twins, and bounds."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from secateur.errors import ModelError, OptionError
from secateur.learn.information import MaskInformation, _coins, _distance, inclusion
from secateur.learn.information import information as found_by
from secateur.learn.sampler import Sampler
from tests.learn.rows_of_gates import gate, gated

DRAWS = 1000
MODULE = sys.modules[MaskInformation.__module__]  # its name is also a function's


def measured(logits: Tensor, k: int, draws: int = DRAWS) -> MaskInformation:
    return found_by(gated(logits, k=k), draws=draws)["0"]


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, int]:
    rows, n = draw(st.integers(1, 6)), draw(st.integers(1, 8))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    spread = draw(st.sampled_from([0.0, 0.5, 4.0, 300.0]))
    return spread * torch.randn(rows, n, generator=generator), draw(st.integers(1, n))


def plain(logits: Tensor, k: int) -> dict[str, float]:
    """Everything but the inclusion entropy, number by number, as methods.md 2.6 says it."""
    rows = [[math.exp(x - max(row)) for x in row] for row in logits.tolist()]
    p = [[x / sum(row) for x in row] for row in rows]
    R, n = len(p), len(p[0])
    H = [-sum(x * math.log(x) for x in row if x > 0) for row in p]
    kept = [set(sorted(range(n), key=lambda j: (-row[j], j))[:k]) for row in logits.tolist()]
    middle = [sum(row[j] for row in p) / R for j in range(n)]
    js = -sum(x * math.log(x) for x in middle if x > 0) - sum(H) / R
    pairs = [1 - len(a & b) / len(a | b) for a, b in itertools.combinations(kept, 2)]
    return {
        "entropy": sum(H) / R,
        "confidence": 1 - sum(H) / R / math.log(n) if n > 1 else 1.0,
        "kappa": sum(sum(p[r][j] for j in kept[r]) for r in range(R)) / R,
        "diversity": js / math.log(min(R, n)) if min(R, n) > 1 else 0.0,
        "jaccard": sum(pairs) / len(pairs) if pairs else 0.0,
    }


@given(cases())
def test_the_measures_are_those_of_the_plain_twin(case: tuple[Tensor, int]) -> None:
    logits, k = case
    got = dataclasses.asdict(measured(logits, k, draws=2))
    expected = plain(logits, k)
    assert {name: got[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert (got["rows"], got["n"], got["k"]) == (*logits.shape, k)


@given(cases())
def test_every_measure_is_in_its_bounds(case: tuple[Tensor, int]) -> None:
    logits, k = case
    got = measured(logits, k, draws=20)
    shares = (got.confidence, got.kappa, got.inclusion_entropy, got.diversity, got.jaccard)
    assert all(0.0 <= share <= 1.0 for share in shares)
    assert 0.0 <= got.entropy <= math.log(max(got.n, 1)) + 1e-9


def test_equal_logits_know_nothing() -> None:
    got = measured(torch.zeros(5, 8), 4)
    assert (got.entropy, got.confidence) == pytest.approx((math.log(8), 0.0), abs=1e-12)
    assert got.kappa == pytest.approx(0.5)
    assert got.inclusion_entropy == pytest.approx(1.0, abs=0.01)  # four of eight: a coin each
    assert (got.diversity, got.jaccard) == (0.0, 0.0)


def test_one_hot_rows_that_differ_are_certain_and_diverse() -> None:
    got = measured(200.0 * torch.eye(6), 1)
    assert (got.confidence, got.kappa, got.inclusion_entropy) == (1.0, 1.0, 0.0)
    assert (got.diversity, got.jaccard) == pytest.approx((1.0, 1.0), abs=1e-12)


def test_identical_rows_have_no_diversity() -> None:
    got = measured(torch.randn(1, 9).expand(7, 9), 3)
    assert got.diversity == pytest.approx(0.0, abs=1e-12)
    assert got.jaccard == 0.0


def test_disjoint_rows_differ_by_all() -> None:
    logits = torch.full((3, 12), -50.0)
    for row in range(3):
        logits[row, 4 * row : 4 * row + 4] = 50.0
    got = measured(logits, 4)
    assert got.diversity == pytest.approx(1.0)
    assert got.jaccard == 1.0
    assert got.confidence == pytest.approx(1 - math.log(4) / math.log(12))  # one of four each
    assert (got.kappa, got.inclusion_entropy) == (1.0, 0.0)


def test_half_of_two_rows_in_common() -> None:
    logits = torch.tensor([[9.0, 8.0, 0.0, 0.0], [9.0, 0.0, 8.0, 0.0]])
    assert measured(logits, 2).jaccard == pytest.approx(1 - 1 / 3)


@pytest.mark.parametrize(
    ("shape", "k", "expected"),
    [
        ((4, 1), 1, {"confidence": 1.0, "kappa": 1.0, "diversity": 0.0, "jaccard": 0.0}),
        ((1, 6), 2, {"diversity": 0.0, "jaccard": 0.0}),
        ((3, 5), 5, {"kappa": 1.0, "inclusion_entropy": 0.0, "jaccard": 0.0}),  # k = n
        ((1, 1), 1, {"confidence": 1.0, "entropy": 0.0, "inclusion_entropy": 0.0}),
    ],
)
def test_the_smallest_gates_are_defined(
    shape: tuple[int, int], k: int, expected: dict[str, float]
) -> None:
    got = dataclasses.asdict(measured(torch.randn(shape), k, draws=10))
    assert {name: got[name] for name in expected} == pytest.approx(expected, abs=1e-7)


def test_a_constant_on_a_row_changes_nothing() -> None:
    logits = torch.randn(4, 6).double().float()
    shifted = logits + torch.tensor([[1.0], [-2.0], [0.0], [8.0]])
    first, second = (dataclasses.asdict(measured(each, 2, draws=50)) for each in (logits, shifted))
    assert first == pytest.approx(second, abs=1e-5)


@pytest.mark.parametrize(("rows", "n", "k"), [(700, 8, 3), (90, 70, 9), (2, 63, 5), (50, 62, 62)])
def test_the_distance_is_exact_for_narrow_and_wide_rows(
    rows: int, n: int, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = torch.zeros(rows, n, dtype=torch.bool)
    mask.scatter_(1, torch.rand(rows, n).topk(k, 1).indices, True)
    common = (mask.unsqueeze(1) & mask).sum(2).double()
    far = 1 - common / (mask.unsqueeze(1) | mask).sum(2)
    expected = float(far.sum()) / (rows * (rows - 1))
    assert _distance(mask, k) == pytest.approx(expected, abs=1e-12)
    monkeypatch.setattr(MODULE, "_COMPARED_AT_ONCE", 100)  # a row at a time
    assert _distance(mask, k) == pytest.approx(expected, abs=1e-12)


def test_all_pairs_of_four_million_rows() -> None:
    mask = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1]], dtype=torch.bool).repeat(2_000_000, 1)
    assert _distance(mask, 2) == pytest.approx(0.5, abs=1e-6)  # half of the pairs have nothing


def _race(p: list[float], k: int) -> list[float]:
    """Exact inclusion probabilities: all orders in which k are drawn, one after the other."""
    found = [0.0] * len(p)
    for order in itertools.permutations(range(len(p)), k):
        chance, left = 1.0, 1.0
        for j in order:
            chance, left = chance * p[j] / left, left - p[j]
        for j in order:
            found[j] += chance
    return found


ERROR_RATE = 1e-6  # of every statistical test in this file: how often a right sampler fails it


def _far(draws: int, comparisons: int) -> float:
    """A frequency is farther from its probability with chance ERROR_RATE at most (Hoeffding)."""
    return math.sqrt(math.log(2 * comparisons / ERROR_RATE) / (2 * draws))


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_inclusion_probabilities_are_those_of_the_race(k: int) -> None:
    logits, draws = torch.tensor([[1.0, 0.0, -1.0, 0.5, 2.0], [0.0, 0.0, 0.0, 3.0, 0.0]]), 20_000
    got = inclusion(gate(logits, k), draws=draws)
    expected = torch.tensor([_race(row, k) for row in logits.softmax(1).tolist()])
    assert float((got - expected).abs().max()) < _far(draws, 10)
    assert torch.allclose(got.sum(1), torch.full((2,), float(k)), atol=1e-5)


def test_less_noise_is_more_certain() -> None:
    logits = torch.randn(20, 10)
    entropies = []
    for noise in (0.0, 0.1, 1.0):
        q = inclusion(gate(logits, 3, noise=noise), draws=500)
        entropies.append(float(torch.special.entr(q).sum()))
    assert entropies[0] == 0.0 < entropies[1] < entropies[2]


@pytest.mark.parametrize("draws", [1, 2, 10, 100, 1000])
def test_the_entropy_of_few_draws_is_low_by_what_is_said(draws: int) -> None:
    estimates = torch.tensor(
        [_coins(torch.tensor([float(c)]), draws) for c in range(draws + 1)], dtype=torch.float64
    )
    q = torch.logspace(-6, math.log10(0.5), 400, dtype=torch.float64).unsqueeze(1)
    c = torch.arange(draws + 1, dtype=torch.float64)
    ways = math.lgamma(draws + 1) - torch.lgamma(c + 1) - torch.lgamma(draws - c + 1)
    chance = (ways + c * q.log() + (draws - c) * torch.log1p(-q)).exp()
    low = torch.special.entr(q) + torch.special.entr(1 - q) - (chance @ estimates).unsqueeze(1)
    low /= math.log(2)
    assert float(low.min()) > -1e-9  # never too high
    if draws >= 10:
        assert 0.3 / draws < float(low.max()) < 0.42 / draws
        assert 0.1 < float(q[low.argmax()]) * draws < 1.0
    assert float(low[q * draws > 10].abs().sum()) < 1e-4  # none where draws tell


def test_certain_candidates_have_no_entropy() -> None:
    assert _coins(torch.tensor([0.0, 7.0]), 7) == 0.0
    assert _coins(torch.tensor([5.0]), 10) == pytest.approx(sum(1 / j for j in range(5, 10)))


@pytest.mark.parametrize("at_once", [1, 7, 40, 2**18])
def test_memory_is_bounded_and_the_pieces_fit(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(MODULE, "_DRAWN_AT_ONCE", at_once)
    draw = Sampler.draw

    def watched(self: Sampler, logits: Tensor, *rest: object) -> Tensor:
        seen.append(logits.numel())
        return draw(self, logits, *rest)

    monkeypatch.setattr(Sampler, "draw", watched)
    q = inclusion(gate(torch.randn(5, 4), 2), draws=50)
    assert torch.allclose(q.sum(1), torch.full((5,), 2.0), atol=1e-5)
    assert max(seen) <= max(at_once, 4)  # a row at least
    assert sum(seen) == 50 * 20


def test_equal_seeds_give_equal_numbers_and_nothing_is_disturbed() -> None:
    net = gated(torch.randn(6, 5), torch.randn(4, 6), k=2)
    net.model(torch.randn(1, 5))
    before = {name: tensor.clone() for name, tensor in net.model.state_dict().items()}
    masks, state = [g().clone() for g in net.gates.values()], torch.get_rng_state()
    first, again, other = (found_by(net, draws=30, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], t) for name, t in net.model.state_dict().items())
    for mask, own in zip(masks, net.gates.values(), strict=True):
        assert torch.equal(mask, own())
        assert own.logits.grad is None


def test_values_go_through_json() -> None:
    got = measured(torch.randn(4, 6), 2, draws=10)
    assert MaskInformation(**json.loads(json.dumps(got.to_json(), allow_nan=False))) == got


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite_are_refused(bad: float) -> None:
    logits = torch.zeros(3, 4)
    logits[1, 2] = bad
    with pytest.raises(ModelError, match="not finite"):
        measured(logits, 2)


def test_no_draws_are_refused() -> None:
    with pytest.raises(OptionError, match="0 draws"):
        measured(torch.zeros(2, 3), 1, draws=0)

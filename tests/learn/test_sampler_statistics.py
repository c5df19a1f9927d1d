"""What is drawn has the right distribution; see methods of the paper: Gumbel top-k is sampling without
replacement, item after item in proportion to exp(logit) (Plackett-Luce).

Every test fails a right sampler with a chance of at most ERROR_RATE over all seeds; seeds are fixed,
so it passes always or never. That wrong samplers fail is tested as well.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from secateur.learn.noise import gumbel
from secateur.learn.sampler import DrawOrder, Relaxation, Sampler
from secateur.types.seed import derive
from tests.learn.rows_of_gates import gate

pytestmark = pytest.mark.usefixtures("drawn_by")

CPU = torch.device("cpu")
ERROR_RATE = 1e-6
DRAWS = 40_000
LOGITS = torch.tensor([1.2, 0.0, -0.7, 0.4])


def p_value(counts: Tensor, expected: Tensor) -> float:
    """Pearson's chi-squared test of counts against expected counts, none of them small."""
    assert float(expected.min()) > 50
    statistic = ((counts - expected).square() / expected).sum().double()
    freedom = torch.tensor((len(counts) - 1) / 2, dtype=torch.float64)
    return float(torch.special.gammaincc(freedom, statistic / 2))


def drawn(k: int, noise: Tensor, how: Sampler | None = None, logits: Tensor = LOGITS) -> Tensor:
    """One mask a row of noise, all with the same logits."""
    return (how or Sampler()).draw(logits.expand(len(noise), -1), k, 1.0, noise)


def pairs(masks: Tensor) -> Tensor:
    """How often each of the six pairs of four was drawn."""
    both = list(itertools.combinations(range(4), 2))
    return torch.tensor([float((masks[:, a] * masks[:, b]).sum()) for a, b in both])


def plackett_luce() -> Tensor:
    """The chance of each pair: first a then b, or first b then a."""
    p = LOGITS.double().softmax(0).tolist()
    return torch.tensor(
        [
            p[a] * p[b] / (1 - p[a]) + p[b] * p[a] / (1 - p[b])
            for a, b in itertools.combinations(range(4), 2)
        ]
    )


@pytest.mark.parametrize("relaxation", Relaxation)
@pytest.mark.parametrize("order", DrawOrder)
def test_first_draws_follow_the_softmax(relaxation: Relaxation, order: DrawOrder) -> None:
    noise = gumbel((DRAWS, 4), derive(1, relaxation, order), CPU)
    counts = drawn(1, noise, Sampler(relaxation=relaxation, order=order)).sum(0)
    assert p_value(counts, DRAWS * LOGITS.softmax(0)) > ERROR_RATE


@pytest.mark.parametrize("order", DrawOrder)
def test_pairs_follow_plackett_and_luce(order: DrawOrder) -> None:
    noise = gumbel((DRAWS, 4), derive(2, order), CPU)
    counts = pairs(drawn(2, noise, Sampler(order=order)))
    assert float(counts.sum()) == DRAWS
    assert p_value(counts, DRAWS * plackett_luce().float()) > ERROR_RATE


def test_half_the_noise_is_twice_the_logits() -> None:
    noise = gumbel((DRAWS, 4), 3, CPU)
    counts = drawn(1, noise, Sampler(noise=0.5)).sum(0)
    assert p_value(counts, DRAWS * (LOGITS / 0.5).softmax(0)) > ERROR_RATE


@pytest.mark.parametrize(("k", "n"), [(1, 5), (2, 4), (3, 10), (9, 10), (50, 784)])
def test_equal_logits_draw_each_candidate_k_of_n_times(k: int, n: int) -> None:
    draws = 4_000
    masks = drawn(k, gumbel((draws, n), derive(4, k, n), CPU), logits=torch.full((n,), 0.3))
    far = math.sqrt(math.log(2 * n / ERROR_RATE) / (2 * draws))  # Hoeffding, for all n at once
    assert float((masks.mean(0) - k / n).abs().max()) < far
    assert bool((masks.sum(1) == k).all())


def test_a_gate_draws_so_step_after_step() -> None:
    made, steps = gate(LOGITS.unsqueeze(0), 2, seed=7), 8_000
    masks = []
    for _ in range(steps):
        made.redraw()
        masks.append(made().detach())
    counts = pairs(torch.stack(masks))
    assert p_value(counts, steps * plackett_luce().float()) > ERROR_RATE


def test_steps_are_independent_of_each_other_and_rows_too() -> None:
    made, steps = gate(torch.zeros(2, 2), 1, seed=8), 8_000
    masks = []
    for _ in range(steps):
        made.redraw()
        masks.append(made().detach())
    first = torch.stack(masks)[:, [0, 2]]  # the first candidate of both rows
    rows = torch.histc(first[:, 0] + 2 * first[:, 1], 4, 0, 3)
    assert p_value(rows, torch.full((4,), steps / 4)) > ERROR_RATE
    after = first[0::2, 0] + 2 * first[1::2, 0]  # a step and the next, in pairs without overlap
    assert p_value(torch.histc(after, 4, 0, 3), torch.full((4,), steps / 8)) > ERROR_RATE


def test_wrong_samplers_are_caught() -> None:
    normal = 1.28 * torch.randn(DRAWS, 4)  # of the same deviation as Gumbel noise
    assert p_value(drawn(1, normal).sum(0), DRAWS * LOGITS.softmax(0)) < ERROR_RATE
    p = LOGITS.softmax(0)
    independent = torch.stack([p[a] * p[b] for a, b in itertools.combinations(range(4), 2)])
    replaced = torch.multinomial(independent / independent.sum(), DRAWS, replacement=True)
    expected = DRAWS * plackett_luce().float()
    assert p_value(torch.bincount(replaced, minlength=6).float(), expected) < ERROR_RATE
    small = gumbel((DRAWS, 4), 5, CPU)
    assert p_value(drawn(1, 0.9 * small).sum(0), DRAWS * LOGITS.softmax(0)) < ERROR_RATE

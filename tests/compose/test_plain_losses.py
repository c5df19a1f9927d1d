"""The plain way: the definition, and what it refuses."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import secateur as sec
from secateur.compose.candidates import Candidate
from secateur.compose.losses import Question
from secateur.compose.objective import LowestLoss
from secateur.compose.plain_losses import PlainLosses
from secateur.compose.pool import Pool
from secateur.errors import DataError
from secateur.types import Groups
from tests.handmade import Net, channels, net, same_state, state_of


def prepared() -> tuple[Net, Groups, Pool]:
    model = net()  # in train mode: it must not matter
    pool = Pool(torch.randn(20, 3, 4, 4), torch.randint(5, (20,)))
    return model, channels(model), pool


def asked(groups: Groups, candidates: list[Candidate], rows: Tensor) -> Question:
    masks = {group.name: torch.ones(group.size, dtype=torch.bool) for group in groups}
    masks["conv1"][0] = False
    return Question(masks, candidates, rows, LowestLoss(), [0] * len(candidates))


CANDIDATES = [Candidate("conv1", 3, "m"), Candidate("conv2", 5, "m"), Candidate("conv2", 0, "m")]


def test_losses_are_those_of_the_shrunk_networks() -> None:
    model, groups, pool = prepared()
    rows = torch.tensor([3, 19, 0, 7, 8])
    question = asked(groups, CANDIDATES, rows)
    answer = PlainLosses(model, groups, pool, F.cross_entropy, batch=2).measure(question)
    for candidate, measured in zip(CANDIDATES, answer.measured, strict=True):
        masks = {name: mask.clone() for name, mask in question.masks.items()}
        masks[candidate.group][candidate.unit] = False
        small = sec.shrink(model, sec.Plan(groups, masks)).eval()
        with torch.no_grad():
            expected = F.cross_entropy(small(pool.x[rows]), pool.y[rows])
        assert measured.loss == pytest.approx(float(expected), rel=1e-5)
        assert measured.samples == 5
        assert not measured.out


def test_it_leaves_everything_as_it_was_and_repeats_itself() -> None:
    model, groups, pool = prepared()
    before, rng = state_of(model), torch.get_rng_state()
    losses = PlainLosses(model, groups, pool, F.cross_entropy)
    question = asked(groups, CANDIDATES, torch.arange(20))
    first = losses.measure(question)
    assert same_state(model, before)
    assert torch.equal(torch.get_rng_state(), rng)
    assert losses.measure(question) == first
    assert copy.deepcopy(losses).measure(question) == first


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_told_with_its_candidate(bad: float) -> None:
    model, groups, pool = prepared()
    before = state_of(model)
    runs = 0

    def loss(output: Tensor, y: Tensor) -> Tensor:
        nonlocal runs
        runs += 1
        return F.cross_entropy(output, y) * (bad if runs > 2 else 1.0)

    with pytest.raises(DataError, match="conv2, unit 5"):
        PlainLosses(model, groups, pool, loss).measure(asked(groups, CANDIDATES, torch.arange(20)))
    assert same_state(model, before)


def test_data_that_the_network_does_not_take_is_told() -> None:
    model, groups, _ = prepared()
    pool = Pool(torch.randn(20, 5, 4, 4), torch.randint(5, (20,)))
    with pytest.raises(DataError, match="does not run"):
        PlainLosses(model, groups, pool, F.cross_entropy).measure(
            asked(groups, CANDIDATES, torch.arange(4))
        )

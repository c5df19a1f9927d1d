"""The loop: who is proposed, who goes, when it ends, and how it goes on."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur as sec
from secateur.compose.candidates import Masks
from secateur.compose.fast_losses import FastLosses
from secateur.compose.losses import Answer, Measured, Question
from secateur.compose.objective import LossPerWeight, LowestLoss
from secateur.compose.oracle import oracle
from secateur.compose.plain_losses import PlainLosses
from secateur.compose.pool import Pool
from secateur.compose.race import Race
from secateur.compose.steps import Step, masks_after
from secateur.cost import params
from secateur.errors import DataError, OptionError, PlanError
from secateur.types import Groups
from tests.handmade import Net, channels, net, rows, same_state, state_of

Scores = Mapping[str, Mapping[str, Tensor]]


@dataclass(frozen=True, slots=True)
class Table:
    """A world without a network: every unit has its own cost, and costs add; samples change them."""

    costs: Mapping[str, Tensor]
    pool: int = 50

    def measure(self, question: Question) -> Answer:
        gone = sum(float(self.costs[n][~mask].sum()) for n, mask in question.masks.items())
        noise = 1 + question.rows.double().mean().item() / 100
        losses = [noise * (gone + float(self.costs[c.group][c.unit])) for c in question.candidates]
        count = question.rows.numel()
        return Answer(noise * gone, tuple(Measured(loss, count) for loss in losses))


def world(seed: int = 0) -> tuple[Groups, Table, Callable[[Masks, int], Scores]]:
    groups = rows([4, 5, 3])
    draw = torch.Generator().manual_seed(seed)
    costs = {g.name: torch.rand(g.size, generator=draw) for g in groups}

    def score(masks: Masks, seed: int) -> Scores:
        own = torch.Generator().manual_seed(seed)
        return {
            metric: {g.name: torch.rand(g.size, generator=own) for g in groups}
            for metric in ("one", "two")
        }

    return groups, Table(costs), score


def removed(steps: list[Step]) -> list[tuple[str, int]]:
    return [(step.removed.group, step.removed.unit) for step in steps]


def test_with_one_metric_and_one_candidate_it_is_pruning_by_that_metric() -> None:
    groups, table, _ = world()
    fixed = {g.name: torch.rand(g.size) for g in groups}
    steps = list(oracle(groups, lambda masks, seed: {"m": fixed}, table, k=1, samples=5))
    ranked = sorted((float(v), name, i) for name, row in fixed.items() for i, v in enumerate(row))
    left = {g.name: g.size for g in groups}
    expected = []
    for _, name, unit in ranked:
        if left[name] > 1:
            expected.append((name, unit))
            left[name] -= 1
    # a unit that was the last of its group when its turn came stays for good
    assert removed(steps) == expected


def test_with_all_as_candidates_it_is_the_exhaustive_one_step_oracle_for_any_metrics() -> None:
    groups, table, score = world()
    reference = list(oracle(groups, score, table, k=99, samples=5))
    other = {g.name: torch.rand(g.size) for g in groups}
    steps = list(oracle(groups, lambda masks, seed: {"m": other}, table, k=99, samples=5))
    assert removed(steps) == removed(reference)
    for step in steps:
        assert step.removed.loss == min(tried.loss for tried in step.tried)


def test_it_ends_when_one_unit_of_each_group_is_left() -> None:
    groups, table, score = world()
    steps = list(oracle(groups, score, table, k=3, samples=5))
    assert len(steps) == 12 - 3
    assert [step.left for step in steps] == list(range(11, 2, -1))
    assert all(int(mask.sum()) == 1 for mask in masks_after(groups, steps).values())


def test_it_ends_when_the_goals_are_met() -> None:
    groups, table, score = world()

    def met(masks: Masks) -> bool:
        return params(groups, masks) <= 0.5 * params(groups)

    steps = list(oracle(groups, score, table, k=3, samples=5, met=met))
    assert met(masks_after(groups, steps))
    assert not met(masks_after(groups, steps[:-1]))
    assert list(oracle(groups, score, table, samples=5, met=lambda masks: True)) == []


def test_interrupted_anywhere_it_goes_on_as_if_nothing_had_happened() -> None:
    groups, table, score = world()
    whole = [json.dumps(s.to_json()) for s in oracle(groups, score, table, k=4, samples=5, seed=7)]
    for done in range(len(whole) + 1):
        journal = [Step.from_json(json.loads(line)) for line in whole[:done]]
        rest = oracle(groups, score, table, k=4, samples=5, seed=7, journal=journal)
        assert [*whole[:done], *(json.dumps(s.to_json()) for s in rest)] == whole


def test_a_race_recalls_what_the_journal_tells() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3)
    )
    model, x = model.double().eval(), torch.randn(400, 6, dtype=torch.float64)
    groups = sec.groups(model, x[:2])
    with torch.no_grad():
        pool = Pool(x, (model(x) * 9).argmax(1))
    fixed = {g.name: torch.arange(g.size).double() for g in groups}

    def removals(journal: list[Step], recall: bool = True) -> list[Step]:
        losses = FastLosses(model, groups, pool, F.cross_entropy, Race(recall=recall))
        options = {"k": 16, "samples": 256, "journal": journal}
        steps = oracle(groups, lambda masks, seed: {"m": fixed}, losses, **options)
        return [*journal, *itertools.islice(steps, 12 - len(journal))]

    whole = removals([])
    assert any(tried.samples == 0 for step in whole for tried in step.tried)
    assert removed(whole) == removed(removals([], recall=False))
    for done in (1, 6, 11):
        journal = [Step.from_json(json.loads(json.dumps(s.to_json()))) for s in whole[:done]]
        assert removals(journal) == whole


def test_the_seed_decides_the_samples_and_nothing_global_does() -> None:
    groups, table, score = world()
    one = list(oracle(groups, score, table, k=4, samples=5, seed=1))
    torch.manual_seed(99)
    assert list(oracle(groups, score, table, k=4, samples=5, seed=1)) == one
    assert list(oracle(groups, score, table, k=4, samples=5, seed=2)) != one


def test_each_step_draws_fresh_samples_and_never_one_twice() -> None:
    groups, table, score = world()
    drawn: list[Tensor] = []

    class Watching(Table):
        def measure(self, question: Question) -> Answer:
            drawn.append(question.rows)
            return super().measure(question)

    list(oracle(groups, score, Watching(table.costs), k=2, samples=20))
    assert all(rows.unique().numel() == 20 and int(rows.max()) < 50 for rows in drawn)
    assert len({tuple(rows.tolist()) for rows in drawn}) == len(drawn)


def test_of_equal_candidates_the_first_proposed_goes() -> None:
    groups = rows([4])
    table = Table({"g0": torch.zeros(4)})
    scores = {"m": {"g0": torch.tensor([3.0, 1.0, 2.0, 0.0])}}
    steps = list(oracle(groups, lambda masks, seed: scores, table, k=4, samples=5))
    assert removed(steps) == [("g0", 3), ("g0", 1), ("g0", 2)]


def test_loss_per_weight_takes_the_sizes_into_account() -> None:
    # a unit of g0 holds 3 parameters, one of g1 holds 2 + 5 = 7
    groups = rows([2, 3])
    table = Table({"g0": torch.tensor([0.6, 0.9]), "g1": torch.tensor([0.7, 0.8, 0.9])})
    scores = {"m": {"g0": torch.zeros(2), "g1": torch.zeros(3)}}

    def first(objective: Any) -> tuple[str, int]:
        run = oracle(groups, lambda masks, seed: scores, table, samples=5, objective=objective)
        return removed([next(iter(run))])[0]

    assert first(LowestLoss()) == first(None) == ("g0", 0)
    assert first(LossPerWeight()) == ("g1", 0)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"k": 0}, OptionError),
        ({"k": 1.5}, OptionError),
        ({"samples": 0}, OptionError),
        ({"samples": True}, OptionError),
        ({"samples": 51}, DataError),
        ({"objective": "loss"}, OptionError),
        ({"objective": LowestLoss}, OptionError),
        ({"journal": [Step(3, (), 0, 0.0, 5, 4)]}, PlanError),
    ],
)
def test_what_makes_no_sense_is_said_at_once(said: dict[str, Any], error: type[Exception]) -> None:
    groups, table, score = world()
    if "journal" in said:
        step = next(iter(oracle(groups, score, table, k=2, samples=5)))
        said = {"journal": [step, step]}
    with pytest.raises(error):
        oracle(groups, score, table, **{"samples": 5, **said})


def test_patterns_are_refused_at_once() -> None:
    groups = rows([4], pattern=(2, 4))
    with pytest.raises(OptionError):
        oracle(groups, world()[2], Table({}), samples=5)


def real(seed: int = 0) -> tuple[Net, Groups, Pool, Callable[[Masks, int], Scores]]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = net().eval()
        for parameter in model.conv1.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        pool = Pool(torch.randn(40, 3, 4, 4), torch.randint(5, (40,)))
    groups = channels(model)

    def score(masks: Masks, seed: int) -> Scores:
        rows = torch.randperm(40, generator=torch.Generator().manual_seed(seed))[:16]
        with sec.masked(model, sec.Plan(groups, masks)):
            data = [(pool.x[rows], pool.y[rows])]
            return sec.score(
                model, groups, data, [sec.Magnitude(), sec.Taylor()], loss=F.cross_entropy
            )

    return model, groups, pool, score


@pytest.mark.parametrize("kind", [PlainLosses, FastLosses])
def test_a_real_network_is_left_as_it_was_and_the_best_goes(kind: Any) -> None:
    model, groups, pool, score = real()
    before = state_of(model)
    losses = kind(model, groups, pool, F.cross_entropy)
    steps = list(oracle(groups, score, losses, k=5, samples=30, seed=3))
    assert same_state(model, before)
    assert len(steps) == 12
    for step in steps:
        standing = [tried.loss for tried in step.tried if not tried.out]
        assert step.removed.loss == min(standing)


@pytest.mark.parametrize("kind", [PlainLosses, FastLosses])
def test_a_run_of_a_real_network_goes_on_after_any_step(kind: Any) -> None:
    def run(journal: list[Step]) -> list[Step]:
        model, groups, pool, score = real()
        losses = kind(model, groups, pool, F.cross_entropy)
        return [*journal, *oracle(groups, score, losses, k=5, samples=30, journal=journal)]

    whole = run([])
    for done in range(0, len(whole), 3):
        assert run(whole[:done]) == whole


@pytest.mark.parametrize("kind", [PlainLosses, FastLosses])
def test_a_run_that_is_broken_off_leaves_the_network_as_it_was(kind: Any) -> None:
    model, groups, pool, score = real()
    before = state_of(model)
    calls = 0

    def loss(output: Tensor, y: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls > 30:
            raise KeyboardInterrupt
        return F.cross_entropy(output, y)

    with pytest.raises(KeyboardInterrupt):
        list(oracle(groups, score, kind(model, groups, pool, loss), k=5, samples=30))
    assert same_state(model, before)
    run = oracle(groups, score, kind(model, groups, pool, F.cross_entropy), k=5, samples=30)
    next(iter(run))
    del run
    assert same_state(model, before)

"""The oracle as a recipe: from a question to a plan, stopped and taken up again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import secateur as sec
from secateur import data as loading
from secateur.compose.candidates import candidates
from secateur.compose.race import Race
from secateur.compose.steps import Step
from secateur.errors import BudgetError, DataError
from secateur.pipeline.folder import JOURNAL, RunFolder
from secateur.pipeline.request import Request
from secateur.pipeline.run import run
from secateur.recipes import Oracle, Question
from secateur.recipes.oracle import Fast, Plain, as_scores, pooled, primitives, scoring
from secateur.types.budget import parse
from secateur.types.seed import derive
from tests.handmade import data, example, net, same_state, state_of

SMALL = Oracle(k=4, samples=8, scored=8)


def asked(to: str = "units=0.7", **said: Any) -> Question:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = net().eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    groups = sec.groups(model, example())
    budgets = tuple(parse(text) for text in to.split())
    return Question(model, groups, budgets, data((12, 12)), F.cross_entropy, **said)


def test_it_removes_units_until_the_budget_holds_and_leaves_the_model_alone() -> None:
    question = asked()
    before = state_of(question.model)
    scores, plan = SMALL.decide(question)
    assert sum(int(mask.sum()) for mask in plan.masks.values()) == 9  # 0.7 of 14, from below
    assert next(iter(scores)) == "oracle"
    assert plan.about["budgets"][0]["met"]
    assert same_state(question.model, before)


def test_every_step_is_noted_with_all_that_was_tried() -> None:
    noted: list[Mapping[str, Any]] = []
    told: list[Any] = []
    question = asked(note=noted.append, tell=lambda *said: told.append(said))
    _, plan = SMALL.decide(question)
    steps = [Step.from_json(entry) for entry in noted]
    assert [step.step for step in steps] == list(range(plan.removed))
    assert told == [("oracle", n + 1, None) for n in range(-1, plan.removed)]
    for step in steps:
        assert len(step.tried) == 4
        measured = [tried.loss for tried in step.tried if not tried.out]
        assert step.removed.loss == min(measured)
        assert {tried.proposer for tried in step.tried} <= primitives().keys()
        assert not plan.masks[step.removed.group][step.removed.unit]


def test_stopped_after_any_step_it_goes_on_as_if_nothing_had_happened() -> None:
    noted: list[Mapping[str, Any]] = []
    whole = SMALL.decide(asked(note=noted.append))
    for done in range(len(noted) + 1):
        later: list[Mapping[str, Any]] = []
        scores, plan = SMALL.decide(asked(steps=noted[:done], note=later.append))
        assert [*noted[:done], *later] == noted
        for name, mask in whole[1].masks.items():
            assert torch.equal(plan.masks[name], mask)
            assert torch.equal(scores["oracle"][name], whole[0]["oracle"][name])


def test_its_scores_give_every_looser_budget_without_another_loss() -> None:
    question = asked("units=0.5")
    scores, _ = SMALL.decide(question)
    looser = sec.allocate(question.groups, scores, sec.Ranked("oracle"), "units=0.7")
    _, direct = SMALL.decide(asked("units=0.7"))
    for name, mask in direct.masks.items():
        assert torch.equal(looser.masks[name], mask)


def test_one_primitive_and_one_candidate_are_pruning_by_that_primitive() -> None:
    question = asked()
    name = "taylor"
    only = {name: primitives()[name]}
    scored = scoring(question, pooled(question), only, 8)
    how = Oracle(primitives=only, k=1, samples=8, scored=8)
    masks = {g.name: torch.ones(g.size, dtype=torch.bool) for g in question.groups}
    _, plan = how.decide(question)
    noted: list[Mapping[str, Any]] = []
    how.decide(asked(note=noted.append))
    for entry in noted:
        step = Step.from_json(entry)
        seed = derive(question.seed, "score", step.step)
        (gone,) = candidates(question.groups, scored(masks, seed), masks, 1)
        assert (gone.group, gone.unit) == (step.removed.group, step.removed.unit)
        masks[gone.group][gone.unit] = False
    for name_, mask in plan.masks.items():
        assert torch.equal(mask, masks[name_])


@pytest.mark.parametrize("measure", [Fast(), Fast(Race())], ids=str)
def test_the_fast_ways_choose_as_the_plain_one(measure: Fast) -> None:
    chosen = []
    for way in (Plain(), measure):
        noted: list[Mapping[str, Any]] = []
        Oracle(k=4, samples=16, scored=8, measure=way).decide(asked("units=0.4", note=noted.append))
        chosen.append([Step.from_json(entry).removed for entry in noted])
    assert [(t.group, t.unit) for t in chosen[0]] == [(t.group, t.unit) for t in chosen[1]]


def test_domino_and_compositions_may_propose() -> None:
    proposers = {
        "sums": sec.Domino(sec.Fisher()),
        "blend": 0.5 * sec.Magnitude() + 0.5 * sec.ActivationTaylor(),
    }
    noted: list[Mapping[str, Any]] = []
    how = Oracle(primitives=proposers, k=3, samples=8, scored=8)
    how.decide(asked(note=noted.append))
    found = {tried.proposer for entry in noted for tried in Step.from_json(entry).tried}
    assert found == proposers.keys()


def test_what_it_cannot_do_without_is_said_at_once() -> None:
    with pytest.raises(BudgetError, match="nothing to stop at"):
        SMALL.decide(asked(""))
    with pytest.raises(DataError, match="needs data"):
        question = asked()
        SMALL.decide(Question(question.model, question.groups, question.budgets, None, F.mse_loss))
    with pytest.raises(DataError, match="samples"):
        Oracle(samples=1000).decide(asked())


def test_scores_count_steps() -> None:
    question = asked("units=0.9")
    scores = as_scores(question.groups, [], "x")
    assert all(float(values.max()) == 0.0 for values in scores["oracle"].values())


def test_a_run_that_was_stopped_has_the_same_bytes_in_the_end(tmp_path: Path) -> None:
    """Law 10, for a recipe of many steps: the journal holds them."""
    request = Request(
        model="demo:lenet5", data="demo:fashion-mini", method="oracle?k=3&samples=32&scored=32",
        to=("units=0.993",), samples=64, recalibrate=False,
    )  # fmt: skip
    images = loading.load("demo:fashion-mini")
    whole = run(request, tmp_path / "whole", images)

    calls = 0

    def stop(progress: Any) -> None:
        nonlocal calls
        calls += progress.stage == "oracle"
        if calls == 3:
            calls += 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(request, tmp_path / "parts", images, stop)
    steps = RunFolder(tmp_path / "parts").steps
    assert len(steps) == 2
    run(request, tmp_path / "parts", images)
    assert len(RunFolder(tmp_path / "parts").steps) == whole.plan.removed
    for name in ("scores.safetensors", "plan.safetensors", "model.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
    assert '"proposer"' in (tmp_path / "whole" / JOURNAL).read_text()

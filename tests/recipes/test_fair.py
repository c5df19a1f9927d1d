"""FAIR-Pruner as a recipe: from a question to a plan, in one shot or in rounds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur as sec
from secateur.errors import BudgetError, DataError, OptionError, PlanError, UnknownNameError
from secateur.pipeline.methods import RECIPES, find_method
from secateur.recipes import Fair, Question
from secateur.types.budget import parse
from tests.allocate import plain_tolerance
from tests.handmade import same_state, state_of
from tests.pipeline.small import data, net, part

BOTH = (sec.Utilization(), sec.Reconstruction())


def chain() -> nn.Module:
    """A layer of one unit in the middle."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 10, 3), nn.ReLU(), nn.Conv2d(10, 1, 1), nn.ReLU(), nn.Conv2d(1, 12, 3),
        nn.BatchNorm2d(12), nn.ReLU(), nn.Flatten(), nn.Linear(12 * 16, 4),
    ).eval()  # fmt: skip


def asked(model: nn.Module | None = None, to: str = "", **said: Any) -> Question:
    model = model or net()
    images = part(120, seed=0)
    batches = list(zip(images.x.split(50), images.y.split(50), strict=True))
    groups = sec.groups(model, images.x[:2])
    budgets = tuple(parse(text) for text in to.split())
    return Question(model, groups, budgets, said.pop("data", batches), F.cross_entropy, **said)


def scored(question: Question, *saliencies: Any) -> sec.Scores:
    assert question.data is not None
    return sec.score(
        question.model, question.groups, question.data, list(saliencies or BOTH),
        loss=question.loss,
    )  # fmt: skip


def equal(left: sec.Plan, right: sec.Plan) -> bool:
    return all(torch.equal(left.masks[name], mask) for name, mask in right.masks.items())


def units(plan: sec.Plan) -> int:
    return sum(int(mask.sum()) for mask in plan.masks.values())


# ---- one shot -----------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, 0.05, 0.3, 0.6, 1.0])
def test_of_a_chain_it_removes_what_the_plain_twin_removes(alpha: float) -> None:
    question = asked(chain())
    scores, plan = Fair(alpha=alpha).decide(question)
    for group in question.groups:
        low, high = (scores[s.name][group.name].tolist() for s in BOTH)
        kept = plain_tolerance.kept(low, high, alpha, plain_tolerance.allowed(group.size))
        assert plan.masks[group.name].nonzero().flatten().tolist() == kept
    assert plan.about["tolerance"]["alpha"] == alpha


@pytest.mark.parametrize("alpha", [0.05, 0.3, 0.6])
def test_of_a_residual_group_it_removes_what_the_plain_twin_removes(alpha: float) -> None:
    question = asked()
    scores, plan = Fair(alpha=alpha).decide(question)
    (coupled,) = scores.layers["utilization"]
    low, high = (
        [values.tolist() for _, values in sorted(scores.layers[s.name][coupled].items())]
        for s in BOTH
    )
    may = plain_tolerance.allowed(question.groups[coupled].size)
    kept = plain_tolerance.kept_by_rank_sum(low, high, alpha, may)
    assert plan.masks[coupled].nonzero().flatten().tolist() == kept


@pytest.mark.parametrize("to", ["units=0.6", "macs=0.5", "params=0.7 macs=0.6"])
def test_it_is_scores_and_a_tolerance(to: str) -> None:
    question = asked(to=to)
    before = state_of(question.model)
    _scores, plan = Fair().decide(question)
    assert same_state(question.model, before)
    by_hand = sec.allocate(question.groups, scored(question), sec.Tolerance(), to.split())
    assert equal(plan, by_hand)
    assert all(budget["met"] for budget in plan.about["budgets"])
    alpha = plan.about["tolerance"]["alpha"]
    assert plan.about["allocator"] == str(sec.Tolerance(alpha=alpha))
    _, again = Fair(alpha=alpha).decide(asked())
    assert equal(plan, again)
    for near in plan.about["tolerance"]["nearest"]:
        assert near["meets"]["value"] <= near["misses"]["value"]


def test_another_budget_needs_neither_data_nor_network() -> None:
    scores, _ = Fair(alpha=0.1).decide(asked())
    question = asked(to="macs=0.6")
    _, direct = Fair().decide(question)
    later = sec.allocate(question.groups, scores, Fair().allocator(None), "macs=0.6")
    assert equal(direct, later)


def test_one_seed_one_answer() -> None:
    plans = [Fair(seed=seed).decide(asked(to="units=0.6")) for seed in (3, 3, 4)]
    assert equal(plans[0][1], plans[1][1])
    name = "inner.0"
    found = [scores["utilization"][name] for scores, _ in plans]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_units_that_are_alike_for_all_classes_leave() -> None:
    """Units that show noise instead of the image are the first to go."""
    model = net()
    with torch.no_grad():  # half of the inner channels show the same for every image
        model.get_parameter("inner.0.weight")[::2] = 0.0
        model.get_parameter("inner.1.bias")[::2] = 1.0
    scores, plan = Fair(alpha=0.0).decide(asked(model))
    assert float(scores["utilization"]["inner.0"][::2].max()) < 1e-6
    assert not bool(plan.masks["inner.0"][~plan.masks["inner.0"]].any())
    gone = (~plan.masks["inner.0"]).nonzero().flatten()
    assert all(unit % 2 == 0 for unit in gone.tolist())


# ---- other signals ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "low", "high"),
    [
        (Fair(removal=sec.Magnitude(1)), sec.Magnitude(1), sec.Reconstruction()),
        (Fair(removal=sec.Random(seed=5)), sec.Random(seed=5), sec.Reconstruction()),
        (Fair(protect=sec.Taylor()), sec.Utilization(), sec.Taylor()),
        (
            Fair(removal=0.5 * sec.Magnitude() + 0.5 * sec.Utilization()),
            0.5 * sec.Magnitude() + 0.5 * sec.Utilization(),
            sec.Reconstruction(),
        ),
    ],
    ids=["magnitude", "random", "protect=taylor", "a blend"],
)
def test_any_signal_may_say_what_leaves_or_stays(how: Fair, low: Any, high: Any) -> None:
    question = asked(to="units=0.7")
    _, plan = how.decide(question)
    tolerance = sec.Tolerance(low.name, high.name)
    by_hand = sec.allocate(question.groups, scored(question, low, high), tolerance, "units=0.7")
    assert equal(plan, by_hand)
    assert how.needs_data


def test_signals_of_weights_alone_need_no_data() -> None:
    how = Fair(removal=sec.Random(), protect=sec.Magnitude())
    assert not how.needs_data
    _, plan = how.decide(asked(to="units=0.7", data=None))
    assert units(plan) < 28
    with pytest.raises(DataError, match="without data"):
        Fair().decide(asked(to="units=0.7", data=None))


# ---- rounds -------------------------------------------------------------------------------------


def test_one_shot_goes_no_further_than_its_bound_and_says_so() -> None:
    with pytest.raises(BudgetError, match="units") as caught:
        Fair(floor=0.4).decide(asked(to="units=0.2"))
    assert caught.value.nearest is not None
    with pytest.raises(BudgetError) as caught:
        Fair(alpha=0.05).decide(asked(to="units=0.2"))
    assert caught.value.nearest is not None


def test_every_round_takes_its_share_of_what_is_left() -> None:
    told: list[Any] = []
    question = asked(to="units=0.25", tell=lambda *said: told.append(said))
    before = state_of(question.model)
    scores, plan = Fair(rounds=3).decide(question)
    assert same_state(question.model, before)
    assert units(plan) <= 0.25 * 28
    assert plan.about["budgets"][0]["met"]
    assert plan.about["recipe"]["name"] == "fair"
    rounds = plan.about["recipe"]["rounds"]
    left = 28
    for number, one in enumerate(rounds, start=1):
        assert sum(group["of"] for group in one["groups"].values()) == left
        left -= sum(group["removed"] for group in one["groups"].values())
        assert one["round"] == number
        assert 0.0 <= one["alpha"] <= 1.0
        (near,) = one["nearest"]  # in terms of the network that was given, as the budget is
        assert near["meets"] == {"value": left / 28, "alpha": one["alpha"]}
        assert near["misses"]["value"] > 0.25 ** (number / 3)
        assert left <= 28 * 0.25 ** (number / 3)
    assert left == units(plan)
    assert told == [("fair", n, 3) for n in range(1, len(rounds) + 1)]
    alone, _ = Fair().decide(asked(to="units=0.9"))
    assert all(torch.equal(scores["utilization"][n], v) for n, v in alone["utilization"].items())


def test_rounds_are_one_shot_after_another() -> None:
    """The plain twin: score, allocate, shrink, and once more."""
    question = asked(to="units=0.36")
    _, plan = Fair(rounds=2).decide(question)
    first = sec.allocate(question.groups, scored(question), sec.Tolerance(), f"units={0.6}")
    small = sec.shrink(question.model, first)
    after = Question(
        small, sec.groups(small, part(2, seed=0).x), (), question.data, F.cross_entropy
    )
    most = int(0.36 * 28)
    second = sec.allocate(after.groups, scored(after), sec.Tolerance(), f"units={most}")
    for name, mask in first.masks.items():
        expected = mask.clone()
        expected[mask] = second.masks[name]
        assert torch.equal(plan.masks[name], expected)


def test_with_an_alpha_every_round_goes_as_far_as_it_may() -> None:
    sizes = []
    masks: dict[str, Tensor] = {}
    for rounds in (1, 2, 3):
        _, plan = Fair(alpha=0.1, rounds=rounds).decide(asked())
        sizes.append(units(plan))
        assert all(bool((masks[n] >= mask).all()) for n, mask in plan.masks.items() if masks)
        masks = dict(plan.masks)
    assert sizes[0] > sizes[1] > sizes[2] > 0


def test_with_an_alpha_it_ends_where_nothing_leaves_any_more() -> None:
    """A round that removes nothing is no error where one before did."""
    _, plan = Fair(alpha=0.0, rounds=40).decide(asked())
    done = plan.about["recipe"]["rounds"]
    assert 1 < len(done) < 40
    assert {(one["alpha"], len(one["nearest"])) for one in done} == {(0.0, 0)}
    assert plan.about["allocator"].endswith(f"rounds: {len(done)}")
    assert all(sum(g["removed"] for g in one["groups"].values()) for one in done)


def test_with_an_alpha_and_a_budget_it_ends_where_the_budget_holds() -> None:
    _, plan = Fair(alpha=0.1, rounds=20).decide(asked(to="units=0.4"))
    assert len(plan.about["recipe"]["rounds"]) < 20
    (budget,) = plan.about["budgets"]
    assert budget["met"]
    assert units(plan) >= 0.2 * 28
    question = asked(to="units=0.8")
    _, further = Fair(alpha=0.5).decide(question)
    assert units(further) < 0.7 * 28
    _, plan = Fair(alpha=0.5, rounds=2).decide(question)
    _, enough = Fair().decide(question)
    assert equal(plan, enough)  # not as far as it may


def test_rounds_that_do_not_get_there_say_how_near_they_came() -> None:
    for how in (Fair(alpha=0.02, rounds=2), Fair(alpha=0.0, rounds=40)):
        with pytest.raises(BudgetError) as caught:
            how.decide(asked(to="units=2"))
        assert caught.value.nearest is not None
        assert "of what is left" not in str(caught.value)
    with pytest.raises(BudgetError, match="in 3 rounds") as caught:
        Fair(rounds=3, floor=5).decide(asked(to="units=0.1"))
    dense = sum(group.size for group in asked().groups)
    least = sum(min(5, group.size) for group in asked().groups)
    assert caught.value.nearest == pytest.approx(least / dense)  # of the network that was given
    with pytest.raises(OptionError, match="each round"):
        Fair(rounds=2, floor=0.5)


@pytest.mark.parametrize("rounds", [1, 3])
def test_what_needs_no_pruning(rounds: int) -> None:
    with pytest.raises(PlanError, match="nothing needs to go"):
        Fair(rounds=rounds).decide(asked(to="units=1.0"))
    with pytest.raises(BudgetError, match="nothing to stop at"):
        Fair(rounds=rounds).decide(asked())


def test_nothing_leaves_at_once_is_an_error_that_names_the_first_alpha() -> None:
    class Ranked(sec.Saliency):
        """Counts the units; to remove and to protect in one order would be the bound."""

        needs = frozenset()

        def start(self, group: Any) -> dict[str, Tensor]:
            return {}

        def observe(self, state: dict[str, Tensor], seen: Any) -> dict[str, Tensor]:
            return state

        def finish(self, state: dict[str, Tensor], group: Any) -> Tensor:
            return torch.arange(group.size)

    class Reversed(Ranked):
        def finish(self, state: dict[str, Tensor], group: Any) -> Tensor:
            return -torch.arange(group.size)

    for rounds in (1, 2):
        how = Fair(alpha=0.1, removal=Ranked(), protect=Reversed(), rounds=rounds)
        with pytest.raises(PlanError, match=r"nothing leaves at alpha=0\.1"):
            how.decide(asked(data=None))


def test_rounds_need_units_that_can_be_cut_out() -> None:
    model = net()
    groups = sec.groups(model, part(2, seed=0).x, sec.Weights())
    how = Fair(rounds=2, removal=sec.Magnitude(), protect=sec.Random())
    question = asked(model, to="units=0.5")
    with pytest.raises(OptionError, match="cannot be cut out") as caught:
        how.decide(Question(model, groups, question.budgets, question.data, F.cross_entropy))
    assert caught.value.where == "rounds"


# ---- by name ------------------------------------------------------------------------------------


def test_options_of_the_command_line() -> None:
    assert "fair" in RECIPES
    assert find_method("fair?alpha=0.1&rounds=2&floor=2&round_to=4", seed=7) == Fair(
        alpha=0.1, rounds=2, floor=2, round_to=4, seed=7
    )
    assert find_method("fair?removal=magnitude&coupled=byindex", seed=0) == Fair(
        removal=sec.Magnitude(), coupled=sec.ByIndex()
    )
    assert find_method("fair?removal=random&protect=taylor&seed=3", seed=0) == Fair(
        removal=sec.Random(), protect=sec.Taylor(), seed=3
    )
    found = find_method("utilization?per_class=8&before=true", seed=2)
    assert found.saliencies == (sec.Utilization(seed=2, per_class=8, before=True),)
    with pytest.raises(UnknownNameError, match="magnitude"):
        find_method("fair?removal=magnitud", seed=0)
    with pytest.raises(OptionError, match="no option 'beta'"):
        find_method("fair?beta=1", seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, "rounds=0"),
        ({"rounds": True}, "rounds=True"),
        ({"alpha": 1.5}, "alpha=1.5"),
        ({"alpha": "much"}, "alpha='much'"),
        ({"floor": -1}, "floor"),
        ({"removal": sec.Reconstruction()}, "both signals are called"),
        ({"coupled": "byindex"}, "coupled"),
    ],
    ids=str,
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Fair(**options)


@pytest.mark.parametrize("method", ["fair?alpha=0.1", Fair(alpha=0.1)], ids=str)
def test_prune_takes_it(method: Any) -> None:
    model = net()
    before = state_of(model)
    result = sec.prune(model, data=data(), method=method, to=None)
    assert same_state(model, before)
    assert result.plan.removed
    assert set(result.scores) == {"utilization", "reconstruction"}
    assert result.plan.about["tolerance"]["alpha"] == 0.1


def test_prune_meets_a_budget_with_it() -> None:
    result = sec.prune(net(), data=data(), method="fair", to="macs=0.5")
    (budget,) = result.measures["budgets"]
    assert budget["met"]
    further = sec.prune(net(), data=data(), method="fair?rounds=3", to="units=0.2")
    first, *lines = further.decision.splitlines()
    assert first == "Tolerance(removal='utilization', protect='reconstruction'), rounds: 3"
    for number, (line, one) in enumerate(
        zip(lines, further.plan.about["recipe"]["rounds"], strict=True), start=1
    ):
        assert line.startswith(f"    round {number}: alpha {one['alpha']}, nearest units: ")
        assert " meets (alpha " in line
        assert f"{one['nearest'][0]['misses']['value']:.4g} misses" in line
    assert further.measures["budgets"][0]["met"]

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from secateur.allocate import Allocator, Ranked, Tolerance, Uniform, allocate
from secateur.cost import count_macs, count_params, macs, params
from secateur.errors import BudgetError, OptionError, PlanError, ScoreError, UnknownNameError
from secateur.types import Budget, Groups, Plan, Scores
from secateur.types.budget import budget
from tests.handmade import channels, example, inside, net, rows

PAIR = Tolerance("a", "b")

COUNTS = {
    "units": lambda groups, masks: sum(
        int(masks[g.name].sum()) if g.name in masks else g.size for g in groups
    ),
    "params": params,
    "macs": macs,
}


def drawn(groups: Groups, seed: int = 0) -> Scores:
    generator = torch.Generator().manual_seed(seed)
    return Scores(
        {by: {g.name: torch.rand(g.size, generator=generator) for g in groups} for by in "ab"}
    )


@st.composite
def problems(draw: st.DrawFn) -> tuple[Groups, Scores, Allocator]:
    sizes = draw(st.lists(st.integers(2, 20), min_size=1, max_size=4))
    values = st.sampled_from([0.0, 0.5, 1.0]) | st.floats(-10, 10, width=32)
    scores = {
        by: {
            f"g{i}": torch.tensor(draw(st.lists(values, min_size=n, max_size=n)))
            for i, n in enumerate(sizes)
        }
        for by in "ab"
    }
    floor, round_to = draw(st.sampled_from([1, 2, 0.25])), draw(st.sampled_from([1, 1, 4]))
    how = draw(
        st.sampled_from(
            [
                Uniform("a", floor, round_to),
                Ranked("a", floor, round_to),
                Tolerance("a", "b", floor=floor, round_to=round_to),
            ]
        )
    )
    return rows(sizes), Scores(scores), how


def attempt(
    groups: Groups, scores: Scores, how: Allocator, to: Budget | list[Budget]
) -> Plan | None:
    try:
        return allocate(groups, scores, how, to)
    except (BudgetError, PlanError):
        return None


@given(problems(), st.sampled_from(sorted(COUNTS)), st.floats(0.05, 0.99))
def test_budgets_are_met_from_below_within_one_step(
    problem: tuple[Groups, Scores, Allocator], quantity: str, target: float
) -> None:
    """Law 5."""
    groups, scores, how = problem
    count, limit = COUNTS[quantity], target * COUNTS[quantity](groups, {})
    order = how.order(groups, scores)
    plan = attempt(groups, scores, how, budget(quantity, target))
    if plan is None:
        assert count(groups, order.masks(order.steps)) > limit or order.steps == 0
        return
    assert count(groups, plan.masks) <= limit * (1 + 1e-9)
    taken = next(
        s
        for s in range(order.steps + 1)
        if all(torch.equal(m, plan.masks[n]) for n, m in order.masks(s).items())
    )
    assert count(groups, order.masks(taken - 1)) > limit


@given(problems(), st.sampled_from(sorted(COUNTS)), st.floats(0.05, 0.99), st.floats(0.05, 0.99))
def test_a_tighter_budget_keeps_nothing_that_a_looser_one_drops(
    problem: tuple[Groups, Scores, Allocator], quantity: str, one: float, other: float
) -> None:
    """Law 6."""
    groups, scores, how = problem
    tight = attempt(groups, scores, how, budget(quantity, min(one, other)))
    loose = attempt(groups, scores, how, budget(quantity, max(one, other)))
    if tight is not None and loose is not None:
        for name, mask in tight.masks.items():
            assert not bool((mask & ~loose.masks[name]).any())


@given(problems(), st.lists(st.tuples(st.sampled_from(sorted(COUNTS)), st.floats(0.2, 0.99))))
def test_several_budgets_hold_at_once_and_no_more_goes_than_the_tightest_asks(
    problem: tuple[Groups, Scores, Allocator], asked: list[tuple[str, float]]
) -> None:
    groups, scores, how = problem
    budgets = [budget(*one) for one in asked]
    if not budgets:
        return
    together = attempt(groups, scores, how, budgets)
    alone = [attempt(groups, scores, how, one) for one in budgets]
    if together is None:
        return
    for one in budgets:
        count = COUNTS[one.quantity]
        assert count(groups, together.masks) <= one.limit(count(groups, {})) * (1 + 1e-9)
    assert together.removed == max(plan.removed for plan in alone if plan is not None)


@given(problems(), st.sampled_from(sorted(COUNTS)), st.floats(0.001, 0.3))
def test_an_unreachable_budget_says_how_near_one_can_come(
    problem: tuple[Groups, Scores, Allocator], quantity: str, target: float
) -> None:
    groups, scores, how = problem
    order, count = how.order(groups, scores), COUNTS[quantity]
    dense, smallest = count(groups, {}), count(groups, order.masks(order.steps))
    if smallest <= target * dense:
        return
    with pytest.raises(BudgetError, match="cannot be reached") as caught:
        allocate(groups, scores, how, budget(quantity, target))
    nearest = caught.value.nearest
    assert nearest == smallest / dense
    assert f"{quantity}={nearest!r}" in caught.value.what
    if nearest < 1.0:
        plan = allocate(groups, scores, how, budget(quantity, nearest))
        assert count(groups, plan.masks) == smallest


@given(problems(), st.floats(0.2, 0.95), st.integers(0, 3))
def test_permuting_the_units_of_a_group_permutes_its_mask(
    problem: tuple[Groups, Scores, Allocator], target: float, seed: int
) -> None:
    """Law 4; scores differ, so that no tie is broken by the index."""
    groups, _, how = problem
    scores = drawn(groups, seed)
    turns = {g.name: torch.randperm(g.size) for g in groups}
    turned = Scores(
        {by: {name: scores[by][name][turn] for name, turn in turns.items()} for by in "ab"}
    )
    here, there = (attempt(groups, s, how, budget("units", target)) for s in (scores, turned))
    assert (here is None) == (there is None)
    if here is not None and there is not None:
        for name, turn in turns.items():
            assert torch.equal(there.masks[name], here.masks[name][turn])


def plain_ranked(groups: Groups, scores: Scores, limit: float) -> dict[str, list[bool]]:
    """The slow twin: remove the lowest score that may go until the units are few enough."""
    left = {g.name: [True] * g.size for g in groups}
    while sum(map(sum, left.values())) > limit:
        candidates = [
            (float(scores["a"][g.name][i]), place, i, g.name)
            for place, g in enumerate(groups)
            if sum(left[g.name]) > 1
            for i in range(g.size)
            if left[g.name][i]
        ]
        _, _, unit, name = min(candidates)
        left[name][unit] = False
    return left


@given(problems(), st.floats(0.4, 0.95))
def test_ranked_agrees_with_its_plain_twin(
    problem: tuple[Groups, Scores, Allocator], target: float
) -> None:
    groups, scores, _ = problem
    plan = attempt(groups, scores, Ranked("a"), budget("units", target))
    if plan is not None:
        expected = plain_ranked(groups, scores, target * groups.units * (1 + 1e-12))
        assert {name: mask.tolist() for name, mask in plan.masks.items()} == expected


@given(problems(), st.floats(0.3, 0.95))
def test_uniform_takes_the_same_fraction_to_within_one_unit(
    problem: tuple[Groups, Scores, Allocator], target: float
) -> None:
    groups, scores, _ = problem
    plan = attempt(groups, scores, Uniform("a"), budget("units", target))
    if plan is None:
        return
    gone = {g.name: int((~plan.masks[g.name]).sum()) for g in groups}
    free = [g for g in groups if gone[g.name] < g.size - 1]
    for one in free:
        for other in free:
            assert (
                abs(gone[one.name] / one.size - gone[other.name] / other.size)
                <= 0.5 * (1 / one.size + 1 / other.size) + 1e-9
            )


def test_equal_scores_fall_to_the_lower_index() -> None:
    groups = rows([3, 3])
    equal = Scores({"a": {"g0": torch.zeros(3), "g1": torch.zeros(3)}})
    plan = allocate(groups, equal, Ranked("a"), "units=3")
    assert plan.masks["g0"].tolist() == [False, False, True]
    assert plan.masks["g1"].tolist() == [False, True, True]
    plan = allocate(groups, equal, Uniform("a"), "units=4")
    assert plan.masks["g0"].tolist() == plan.masks["g1"].tolist() == [False, True, True]


@pytest.mark.parametrize("how", [Uniform("a"), Ranked("a"), Ranked("a", round_to=2), PAIR])
@pytest.mark.parametrize("quantity", ["macs", "params"])
def test_what_is_planned_is_what_a_network_of_that_size_costs(
    how: Allocator, quantity: str
) -> None:
    model = net()
    groups = channels(model)
    plan = allocate(groups, drawn(groups), how, f"{quantity}=0.5")
    small = net(*(int(plan.masks[name].sum()) for name in ("conv1", "conv2")))
    count = count_params if quantity == "params" else lambda m: count_macs(m, example())
    (verdict,) = plan.about["budgets"]
    assert verdict["reached"] == count(small) / count(model) <= 0.5
    assert verdict["met"]


@pytest.mark.parametrize("kind", ["weight", "kernel"])
def test_units_inside_weights(kind: str) -> None:
    groups = inside(net(), kind)
    plan = allocate(groups, drawn(groups), Ranked("a"), "macs=0.25")
    assert 0.24 < macs(groups, plan.masks) / macs(groups) <= 0.25


def test_patterns_need_no_budget_and_ignore_a_loose_one() -> None:
    groups = inside(net(8, 8), "weight", pattern=(2, 4))
    alone = allocate(groups, drawn(groups), Ranked("a"), None)
    loose = allocate(groups, drawn(groups), Uniform("a"), "units=0.9")
    for plan in (alone, loose):
        for mask in plan.masks.values():
            assert mask.reshape(-1, 4).sum(1).tolist() == [2] * (mask.numel() // 4)
    assert alone.about["budgets"] == []
    with pytest.raises(BudgetError, match="cannot be reached") as caught:
        allocate(groups, drawn(groups), Ranked("a"), "units=0.4")
    assert caught.value.nearest == 0.5


def test_the_plan_says_where_it_comes_from() -> None:
    groups = rows([8, 8])
    scores = Scores(drawn(groups).table, {"a": "Magnitude(p=2)"})
    plan = allocate(groups, scores, Ranked("a", round_to=2), ["macs=0.5", budget("units", 12)])
    assert json.loads(json.dumps(plan.about)) == plan.about
    assert plan.about["allocator"] == "Ranked(by='a', floor=1, round_to=2)"
    assert plan.about["scores"] == {"a": "Magnitude(p=2)"}
    first, second = plan.about["budgets"]
    assert (first["quantity"], first["asked"], first["met"]) == ("macs", 0.5, True)
    assert first["reached"] == macs(groups, plan.masks) / first["dense"]
    assert (second["quantity"], second["asked"]) == ("units", 12)
    assert second["reached"] == 16 - plan.removed


@pytest.mark.parametrize(
    "to", ["latency=2ms", "memory=0.5", "accuracy=-1", "bytes=200kB", ["macs=0.5", "latency=0.5"]]
)
def test_what_must_be_measured_is_refused(to: str | list[str]) -> None:
    groups = rows([4])
    with pytest.raises(BudgetError, match="must be measured") as caught:
        allocate(groups, drawn(groups), Ranked("a"), to)
    assert "macs" in caught.value.hint


@pytest.mark.parametrize("to", ["macs=1.0", "units=4", "params=1M", ["macs=1", "params=1"]])
def test_a_budget_that_the_dense_network_meets_is_an_error(to: str | list[str]) -> None:
    groups = rows([4])
    with pytest.raises(PlanError, match="nothing needs to go"):
        allocate(groups, drawn(groups), Ranked("a"), to)


def test_no_budget_and_no_pattern() -> None:
    groups = rows([4])
    for to in (None, []):
        with pytest.raises(BudgetError, match="without a budget"):
            allocate(groups, drawn(groups), Ranked("a"), to)


def test_no_groups_and_a_floor_that_holds_everything() -> None:
    with pytest.raises(PlanError, match="no unit to remove"):
        allocate(Groups(()), Scores({"a": {}}), Ranked("a"), "macs=0.5")
    groups = rows([4])
    with pytest.raises(BudgetError, match="cannot be reached") as caught:
        allocate(groups, drawn(groups), Ranked("a", floor=4), "macs=0.5")
    assert caught.value.nearest == 1.0
    with pytest.raises(PlanError, match="nothing can go"):
        allocate(groups, drawn(groups), Ranked("a", floor=4), None)


def test_an_absolute_unreachable_budget_names_an_absolute_value() -> None:
    groups = rows([10])
    with pytest.raises(BudgetError) as caught:
        allocate(groups, drawn(groups), Ranked("a", floor=3), "units=2")
    assert caught.value.nearest == 3
    assert caught.value.where == "units=2"
    assert allocate(groups, drawn(groups), Ranked("a", floor=3), "units=3").removed == 7


@pytest.mark.parametrize(
    ("scores", "what"),
    [
        ({"a": {}}, "was not scored"),
        ({"a": {"g0": torch.ones(3)}}, "needs 4 scores"),
        ({"a": {"g0": torch.ones(4, 1)}}, "needs 4 scores"),
        ({"a": {"g0": torch.tensor([1.0, math.nan, 1.0, 1.0])}}, "NaN or infinite"),
        ({"a": {"g0": torch.tensor([1.0, math.inf, 1.0, 1.0])}}, "NaN or infinite"),
    ],
)
@pytest.mark.parametrize("how", [Uniform("a"), Ranked("a"), PAIR])
def test_scores_that_cannot_be_used(
    scores: dict[str, dict[str, Tensor]], what: str, how: Allocator
) -> None:
    with pytest.raises(ScoreError, match=what):
        allocate(rows([4]), Scores(scores), how, "macs=0.5")


@pytest.mark.parametrize("how", [Uniform("a"), Ranked("a"), Tolerance("b", "a"), PAIR])
def test_scores_that_were_not_taken(how: Allocator) -> None:
    scores = Scores({"b": {"g0": torch.ones(4)}}, {})
    with pytest.raises(UnknownNameError, match="there are no 'a' scores") as caught:
        allocate(rows([4]), scores, how, "macs=0.5")
    assert caught.value.hint == "scored were: b"


@pytest.mark.parametrize("kind", [Uniform, Ranked, Tolerance])
@pytest.mark.parametrize(
    "options",
    [{"floor": 0}, {"floor": 0.0}, {"floor": 1.0}, {"floor": -0.1}, {"floor": -3}, {"round_to": 0}],
)
def test_options_that_make_no_sense(kind: type[Ranked], options: dict[str, float]) -> None:
    with pytest.raises(OptionError) as caught:
        kind("a", **options)
    assert caught.value.where == kind.__name__
    assert caught.value.hint


def test_the_dense_network_is_counted_once_and_the_bisection_is_short() -> None:
    groups, calls = rows([256] * 40), []

    class Counting(Ranked):
        def choose(self, groups, scores, wanted):  # type: ignore[no-untyped-def]
            goal = wanted[0]
            counted = type(goal)(
                goal.budget, goal.dense, lambda m: calls.append(1) or goal.count(m)
            )
            return super().choose(groups, scores, [counted])

    allocate(groups, drawn(groups), Counting("a"), "macs=0.5")
    assert len(calls) <= 17  # two ends and log2 of ten thousand

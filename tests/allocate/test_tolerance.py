from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from secateur.allocate import ByIndex, Coupled, RankSum, Tolerance, allocate, goals
from secateur.errors import BudgetError, OptionError, PlanError, ScoreError
from secateur.types import Groups, Plan, Scores
from secateur.types.budget import budget
from tests.allocate import plain_tolerance as plain
from tests.handmade import inside, net, rows

COUNTED = st.sampled_from(["units", "params", "macs"])
ALPHAS = st.sampled_from([0.0, 0.1, 0.2, 1 / 3, 0.5, 2 / 3, 1.0]) | st.floats(0, 1)
COUPLED = st.sampled_from([RankSum(), ByIndex()])
VALUES = st.sampled_from([0.0, 0.5, 1.0]) | st.floats(-10, 10, width=32)


def pair(removal: dict[str, Tensor], protect: dict[str, Tensor]) -> Scores:
    return Scores({"utilization": removal, "reconstruction": protect})


def drawn(sizes: list[int], seed: int = 0) -> Scores:
    own = torch.Generator().manual_seed(seed)
    one, other = (
        {f"g{i}": torch.rand(n, generator=own) for i, n in enumerate(sizes)} for _ in range(2)
    )
    return pair(one, other)


def layered(scores: Scores, layers: dict[str, int], seed: int = 0) -> Scores:
    """With scores of single layers: so many for each of these groups."""
    own = torch.Generator().manual_seed(seed)
    found = {
        by: {
            group: {
                f"{group}.{i}": torch.rand(scores[by][group].shape, generator=own)
                for i in range(count)
            }
            for group, count in layers.items()
        }
        for by in scores
    }
    return Scores(scores.table, scores.about, found)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Groups, Scores]:
    """Groups of a few units, some of them written by several layers."""
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=3))

    def row(n: int) -> Tensor:
        return torch.tensor(draw(st.lists(VALUES, min_size=n, max_size=n)))

    names = ("utilization", "reconstruction")
    table = {by: {f"g{i}": row(n) for i, n in enumerate(sizes)} for by in names}
    counts = [draw(st.integers(0, 3)) for _ in sizes]
    layers = {
        by: {
            f"g{i}": {f"w{j}": row(n) for j in range(count)}
            for i, (n, count) in enumerate(zip(sizes, counts, strict=True))
            if count
        }
        for by in names
    }
    return rows(sizes), Scores(table, {}, layers)


def plain_masks(groups: Groups, scores: Scores, how: Tolerance, alpha: float) -> dict[str, Tensor]:
    """The slow twin of one alpha for all groups."""
    choose = plain.kept_by_rank_sum if isinstance(how.coupled, RankSum) else plain.kept_by_index
    masks = {}
    for group in groups:
        may = plain.allowed(group.size, how.floor, how.round_to)
        signals = []
        for by in (how.removal, how.protect):
            layers = scores.layers.get(by, {}).get(group.name, {"": scores[by][group.name]})
            signals.append([layers[name].tolist() for name in sorted(layers)])
        mask = torch.zeros(group.size, dtype=torch.bool)
        mask[choose(*signals, alpha, may)] = True
        masks[group.name] = mask
    return masks


def same(one: Plan | None, masks: dict[str, Tensor]) -> bool:
    if one is None:  # nothing leaves, which is an error
        return all(bool(mask.all()) for mask in masks.values())
    return all(torch.equal(one.masks[name], mask) for name, mask in masks.items())


def attempt(groups: Groups, scores: Scores, how: Tolerance, to: object = None) -> Plan | None:
    try:
        return allocate(groups, scores, how, to)
    except (BudgetError, PlanError):
        return None


@given(problems(), ALPHAS, st.sampled_from([1, 2, 0.25]), st.sampled_from([1, 1, 3]), COUPLED)
def test_alpha_alone_agrees_with_the_plain_twin(
    problem: tuple[Groups, Scores],
    alpha: float,
    floor: int | float,
    round_to: int,
    coupled: Coupled,
) -> None:
    groups, scores = problem
    how = Tolerance(alpha=alpha, floor=floor, round_to=round_to, coupled=coupled)
    plan = attempt(groups, scores, how)
    assert same(plan, plain_masks(groups, scores, how, alpha))
    if plan is not None:
        told = plan.about["tolerance"]
        assert told["alpha"] == alpha
        assert told["nearest"] == []
        for group in groups:
            left = int(plan.masks[group.name].sum())
            depth = told["groups"][group.name]
            assert (depth["removed"], depth["of"]) == (group.size - left, group.size)
            if "layers" in depth:
                assert depth["removed"] == min(depth["layers"].values())


def every_alpha(groups: Groups, scores: Scores) -> list[float]:
    """All values that a ToD of this problem can have, rising."""
    largest = max(group.size for group in groups)
    return sorted({k / m for m in range(1, largest + 1) for k in range(m + 1)})


@given(problems(), COUNTED, st.floats(0.05, 0.99))
def test_a_budget_takes_the_smallest_alpha_and_tells_its_true_neighbours(
    problem: tuple[Groups, Scores], quantity: str, target: float
) -> None:
    """Exhaustively: every alpha that could matter is tried by the slow twin."""
    groups, scores = problem
    how = Tolerance()
    (goal,) = goals(groups, budget(quantity, target))
    tried = [(a, plain_masks(groups, scores, how, a)) for a in every_alpha(groups, scores)]
    values = [goal.count({})] + [goal.count(masks) for _, masks in tried]
    fitting = [(alpha, masks) for alpha, masks in tried if goal.met(masks)]
    plan = attempt(groups, scores, how, budget(quantity, target))
    if plan is None:
        assert not fitting
        return
    told = plan.about["tolerance"]
    alpha, masks = fitting[0]
    assert told["alpha"] == alpha
    assert same(plan, masks)
    (nearest,) = told["nearest"]
    reached = goal.count(masks) / goal.dense
    assert nearest["meets"] == {"value": reached, "alpha": alpha}
    assert reached == max(v / goal.dense for v in values if v / goal.dense <= target * (1 + 1e-12))
    above = min(v / goal.dense for v in values if v > goal.count(masks))
    assert nearest["misses"]["value"] == above > target
    before = nearest["misses"]["alpha"]
    if before is None:
        assert above == 1.0
    else:
        assert before < alpha
        assert goal.count(plain_masks(groups, scores, how, before)) / goal.dense == above


@given(problems(), COUPLED, COUNTED, st.floats(0.2, 0.95))
def test_by_any_rule_budgets_hold_and_the_step_before_misses(
    problem: tuple[Groups, Scores], coupled: Coupled, quantity: str, target: float
) -> None:
    groups, scores = problem
    how = Tolerance(coupled=coupled)
    (goal,) = goals(groups, budget(quantity, target))
    plan = attempt(groups, scores, how, budget(quantity, target))
    order = how.order(groups, scores)
    if plan is None:
        assert not goal.met(order.masks(order.steps))
        return
    steps = order.step(plan.about["tolerance"]["alpha"])
    assert goal.met(plan.masks)
    assert same(plan, order.masks(steps))
    assert not goal.met(order.masks(steps - 1))


@given(problems(), COUNTED, st.floats(0.05, 0.99), st.floats(0.05, 0.99))
def test_law_6_by_rank_sum(
    problem: tuple[Groups, Scores], quantity: str, one: float, other: float
) -> None:
    groups, scores = problem
    tight, loose = (
        attempt(groups, scores, Tolerance(), budget(quantity, share))
        for share in sorted([one, other])
    )
    if tight is not None and loose is not None:
        for name, mask in tight.masks.items():
            assert not bool((mask & ~loose.masks[name]).any())


@given(problems(), ALPHAS, COUNTED, st.floats(0.2, 0.99))
def test_with_alpha_and_a_budget_alpha_is_the_stop(
    problem: tuple[Groups, Scores], alpha: float, quantity: str, target: float
) -> None:
    groups, scores = problem
    masks = plain_masks(groups, scores, Tolerance(), alpha)
    (goal,) = goals(groups, budget(quantity, target))
    if goal.met(masks):
        plan = allocate(groups, scores, Tolerance(alpha=alpha), budget(quantity, target))
        assert same(plan, masks)
        assert plan.about["tolerance"]["alpha"] == alpha
        assert plan.about["tolerance"]["nearest"][0]["meets"]["alpha"] <= alpha
        return
    with pytest.raises(BudgetError, match="cannot be reached") as caught:
        allocate(groups, scores, Tolerance(alpha=alpha), budget(quantity, target))
    assert caught.value.nearest == goal.count(masks) / goal.dense
    assert "a larger alpha" in caught.value.hint


def test_a_layer_of_one_unit_does_not_shift_the_others() -> None:
    """The authors' package appends nothing for it, and all later layers take another's depth."""
    sizes, without = [12, 1, 20, 9], [12, 20, 9]
    scores = drawn(sizes)
    plan = allocate(rows(sizes), scores, Tolerance(alpha=0.4), None)
    fewer = {by: {f"g{i}": scores[by][f"g{j}"] for i, j in enumerate((0, 2, 3))} for by in scores}
    alone = allocate(rows(without), Scores(fewer), Tolerance(alpha=0.4), None)
    assert plan.masks["g1"].tolist() == [True]
    assert plan.about["tolerance"]["groups"]["g1"] == {"removed": 0, "of": 1}
    for i, j in enumerate((0, 2, 3)):
        assert torch.equal(plan.masks[f"g{j}"], alone.masks[f"g{i}"])
    assert alone.removed > 0


def test_only_units_of_one() -> None:
    groups, scores = rows([1, 1]), drawn([1, 1])
    with pytest.raises(PlanError, match="nothing can go"):
        allocate(groups, scores, Tolerance(alpha=1.0), None)
    with pytest.raises(BudgetError, match="cannot be reached") as caught:
        allocate(groups, scores, Tolerance(), "units=0.5")
    assert caught.value.nearest == 1.0


def test_at_alpha_1_all_but_a_hundredth_leaves() -> None:
    plan = allocate(rows([300, 50]), drawn([300, 50]), Tolerance(alpha=1), None)
    assert [int(mask.sum()) for mask in plan.masks.values()] == [3, 1]


def test_constant_scores_leave_at_alpha_1_only() -> None:
    level = {"g0": torch.ones(8)}
    groups, scores = rows([8]), pair(level, level)
    with pytest.raises(PlanError, match=r"nothing leaves at alpha=0\.99") as caught:
        allocate(groups, scores, Tolerance(alpha=0.99), None)
    assert caught.value.hint == "the first units leave at alpha=1.0"
    plan = allocate(groups, scores, Tolerance(), "units=0.5")
    assert plan.masks["g0"].tolist() == [False] * 7 + [True]
    (nearest,) = plan.about["tolerance"]["nearest"]
    assert nearest["misses"] == {"value": 1.0, "alpha": None}


def test_widths_become_multiples_and_the_floor_holds() -> None:
    sizes = [30, 17, 8]
    for floor in (1, 5, 0.5):
        how = Tolerance(alpha=1.0, floor=floor, round_to=8)
        plan = allocate(rows(sizes), drawn(sizes), how, None)
        for size, mask in zip(sizes, plan.masks.values(), strict=True):
            left = int(mask.sum())
            assert left == size or left % 8 == 0
            assert left >= (floor if isinstance(floor, int) else floor * size)


def test_any_two_signals() -> None:
    scores = Scores({"magnitude": {"g0": torch.arange(9.0)}, "taylor": {"g0": torch.arange(9.0)}})
    plan = allocate(rows([9]), scores, Tolerance("magnitude", "taylor", alpha=0.0), None)
    assert plan.masks["g0"].tolist() == [False] * 4 + [True] * 5
    with pytest.raises(OptionError, match="both go by"):
        Tolerance("taylor", "taylor", alpha=0.0)


def test_layers_count_where_both_signals_have_them() -> None:
    groups, scores = rows([12, 12]), layered(drawn([12, 12]), {"g0": 3})
    own = allocate(groups, drawn([12, 12]), Tolerance(alpha=0.4), None)
    plan = allocate(groups, scores, Tolerance(alpha=0.4), None)
    assert torch.equal(plan.masks["g1"], own.masks["g1"])
    assert sorted(plan.about["tolerance"]["groups"]["g0"]["layers"]) == ["g0.0", "g0.1", "g0.2"]
    assert "layers" not in plan.about["tolerance"]["groups"]["g1"]
    half = Scores(scores.table, {}, {"utilization": scores.layers["utilization"]})
    assert same(allocate(groups, half, Tolerance(alpha=0.4), None), dict(own.masks))


def test_saved_scores_give_the_same_plan(tmp_path: Path) -> None:
    scores = layered(drawn([12, 12, 30]), {"g0": 3, "g2": 2})
    read = Scores.load(scores.save(tmp_path / "scores"))
    for to in ("units=0.6", "macs=0.3"):
        plans = [allocate(rows([12, 12, 30]), s, Tolerance(), to) for s in (scores, read)]
        assert same(plans[0], dict(plans[1].masks))


def test_patterns_keep_their_k_of_m() -> None:
    groups = inside(net(8, 8), "weight", pattern=(2, 4))
    scores = Scores({by: {g.name: torch.rand(g.size) for g in groups} for by in ("a", "b")})
    for how, to in ((Tolerance("a", "b"), None), (Tolerance("a", "b", alpha=0.1), "units=0.9")):
        for mask in allocate(groups, scores, how, to).masks.values():
            assert mask.reshape(-1, 4).sum(1).tolist() == [2] * (mask.numel() // 4)
    with pytest.raises(BudgetError, match="cannot be reached") as caught:
        allocate(groups, scores, Tolerance("a", "b"), "units=0.4")
    assert caught.value.nearest == 0.5


def test_several_budgets_and_what_the_plan_tells() -> None:
    sizes = [20, 30, 10]
    groups, scores = rows(sizes), layered(drawn(sizes), {"g1": 2})
    plan = allocate(groups, scores, Tolerance(), ["macs=0.5", budget("units", 40)])
    assert json.loads(json.dumps(plan.about)) == plan.about
    told = plan.about["tolerance"]
    assert list(told["groups"]) == list(plan.masks) == ["g0", "g1", "g2"]
    macs, units = told["nearest"]
    assert macs["meets"]["value"] <= 0.5 < macs["misses"]["value"]
    assert units["meets"]["value"] <= 40 < units["misses"]["value"]
    assert told["alpha"] == max(macs["meets"]["alpha"], units["meets"]["alpha"])
    assert all(verdict["met"] for verdict in plan.about["budgets"])


def test_what_one_shot_cannot_reach() -> None:
    groups, scores = rows([50]), drawn([50])
    with pytest.raises(BudgetError, match="cannot be reached") as caught:
        allocate(groups, scores, Tolerance(floor=5), "units=4")
    assert caught.value.nearest == 5
    assert "rounds" in caught.value.hint


def test_without_a_budget_or_an_alpha() -> None:
    with pytest.raises(BudgetError, match="without a budget or an alpha"):
        allocate(rows([4]), drawn([4]), Tolerance(), None)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, math.nan, math.inf, True, False, "0.1", 2])
def test_alphas_that_make_no_sense(alpha: object) -> None:
    with pytest.raises(OptionError, match="no number from 0 to 1") as caught:
        Tolerance(alpha=alpha)  # type: ignore[arg-type]
    assert caught.value.where == "Tolerance"
    assert caught.value.hint


@pytest.mark.parametrize("coupled", [RankSum, "ranksum", None])
def test_rules_that_make_no_sense(coupled: object) -> None:
    with pytest.raises(OptionError, match="no rule for coupled layers"):
        Tolerance(coupled=coupled)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "what"),
    [
        (torch.ones(3), "needs 4 scores"),
        (torch.tensor([1.0, math.nan, 1.0, 1.0]), "NaN or infinite"),
        (torch.tensor([1.0, math.inf, 1.0, 1.0]), "NaN or infinite"),
    ],
)
def test_layers_that_cannot_be_used(values: Tensor, what: str) -> None:
    scores = layered(drawn([4]), {"g0": 2})
    broken = {**scores.layers["reconstruction"]["g0"], "g0.1": values}
    layers = {**scores.layers, "reconstruction": {"g0": broken}}
    with pytest.raises(ScoreError, match=what) as caught:
        allocate(rows([4]), Scores(scores.table, {}, layers), Tolerance(), "units=0.5")
    assert caught.value.where == "reconstruction, g0, g0.1"


def test_it_is_shown_with_its_options() -> None:
    expected = (
        "Tolerance(removal='utilization', protect='reconstruction', alpha=0.05, floor=1,"
        " round_to=1, coupled=RankSum())"
    )
    assert str(Tolerance(alpha=0.05)) == expected

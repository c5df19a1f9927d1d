from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import secateur as sec
from secateur.allocate import Knapsack, Ranked, allocate
from secateur.allocate.goals import goals
from secateur.errors import BudgetError, OptionError, SecateurError, UnknownNameError
from secateur.types import Groups, Scores
from tests.handmade import channels, inside, net, rows

pytest.importorskip("highspy")


def drawn(groups: Groups, seed: int) -> Scores:
    draw = torch.Generator().manual_seed(seed)
    return Scores({"a": {g.name: torch.rand(g.size, generator=draw) for g in groups}})


def best(groups: Groups, scores: Scores, to: list[str]) -> float:
    """The twin: every choice of widths."""
    wanted, most = goals(groups, to), -1.0
    orders = {g.name: scores["a"][g.name].sort(stable=True).indices for g in groups}
    for gone in itertools.product(*(range(g.size) for g in groups)):
        masks = {}
        for group, n in zip(groups, gone, strict=True):
            masks[group.name] = torch.ones(group.size, dtype=torch.bool)
            masks[group.name][orders[group.name][:n]] = False
        if all(goal.met(masks) for goal in wanted):
            most = max(most, kept(scores, masks))
    return most


def kept(scores: Scores, masks: dict[str, torch.Tensor]) -> float:
    return sum(float(scores["a"][n][m].double().sum()) for n, m in masks.items())


EXACT = Knapsack("a", levels=100, gap=0.0, nodes=10_000)


@settings(max_examples=25)
@given(
    st.integers(0, 10_000),
    st.tuples(st.integers(2, 7), st.integers(2, 9)),
    st.lists(
        st.tuples(st.sampled_from(["macs", "params", "units"]), st.floats(0.3, 0.95)),
        min_size=1,
        max_size=3,
        unique_by=lambda pair: pair[0],
    ),
)
def test_keeps_as_much_as_the_best_of_all_widths(
    seed: int, sizes: tuple[int, int], asked: list[tuple[str, float]]
) -> None:
    groups = channels(net(*sizes))
    scores, to = drawn(groups, seed), [f"{name}={share:.3f}" for name, share in asked]
    most = best(groups, scores, to)
    if most < 0 or most == pytest.approx(
        kept(scores, {g.name: torch.ones(g.size) > 0 for g in groups})
    ):
        return
    plan = allocate(groups, scores, EXACT, to)
    assert kept(scores, dict(plan.masks)) == pytest.approx(most, rel=1e-6)
    assert all(verdict["met"] for verdict in plan.about["budgets"])


@pytest.mark.parametrize("to", [["macs=0.5"], ["params=0.4", "macs=0.6"], ["units=0.5"]])
@pytest.mark.parametrize("round_to", [1, 2])
def test_keeps_no_less_than_ranked_and_no_more_than_its_bound(to: list[str], round_to: int) -> None:
    groups = channels(net(12, 16))
    for seed in range(5):
        scores = drawn(groups, seed)
        how = Knapsack("a", round_to=round_to, levels=4)
        plan = allocate(groups, scores, how, to)
        ranked = allocate(groups, scores, Ranked("a", round_to=round_to), to)
        told = plan.about["knapsack"]
        assert kept(scores, dict(plan.masks)) >= kept(scores, dict(ranked.masks))
        assert kept(scores, dict(plan.masks)) == pytest.approx(told["kept saliency"])
        assert told["kept saliency"] <= told["most that its widths could keep"] * (1 + 1e-9)
        assert told["ranked keeps"] == pytest.approx(kept(scores, dict(ranked.masks)))
        for mask in plan.masks.values():
            assert bool(mask.all()) or int(mask.sum()) % round_to == 0


@given(st.integers(0, 10_000), st.floats(0.2, 0.9))
def test_no_unit_more_would_fit(seed: int, share: float) -> None:
    """Law 5."""
    groups = channels(net(6, 9))
    scores = drawn(groups, seed)
    try:
        plan = allocate(groups, scores, Knapsack("a", levels=3), f"macs={share}")
    except BudgetError:
        return
    (goal,) = goals(groups, f"macs={share}")
    assert goal.met(plan.masks)
    for group in groups:
        gone = (~plan.masks[group.name]).nonzero().flatten()
        if len(gone):
            back = int(gone[scores["a"][group.name][gone].argmax()])
            mask = plan.masks[group.name].clone()
            mask[back] = True
            assert not goal.met({**plan.masks, group.name: mask})


def test_a_cheap_unit_is_worth_less_than_it_costs_elsewhere() -> None:
    """Three units of value 1 that cost 1 each beat one of value 2 that costs 3."""
    groups = rows([3, 3])
    scores = Scores(
        {"a": {"g0": torch.tensor([1.0, 1.0, 1.0]), "g1": torch.tensor([2.0, 0.1, 0.1])}}
    )
    plan = allocate(groups, scores, EXACT, "units=4")
    assert plan.masks["g0"].tolist() == [True] * 3
    assert plan.masks["g1"].tolist() == [True, False, False]


def test_single_weights() -> None:
    groups = inside(net(), "weight")
    scores = drawn(groups, 0)
    for quantity in ("macs", "params"):
        first = allocate(groups, scores, Knapsack("a"), f"{quantity}=0.5")
        second = allocate(groups, scores, Knapsack("a"), f"{quantity}=0.5")
        assert first.about["budgets"][0]["reached"] == pytest.approx(0.5, abs=0.02)
        for name, mask in first.masks.items():
            assert torch.equal(mask, second.masks[name])


def test_patterns_stay_as_they_are() -> None:
    groups = inside(net(), "weight", pattern=(1, 2))
    plan = allocate(groups, drawn(groups, 0), Knapsack("a"), None)
    assert all(int(m.sum()) * 2 == m.numel() for m in plan.masks.values())


def test_budgets_that_are_not_counted_and_those_out_of_reach() -> None:
    groups = channels(net())
    scores = drawn(groups, 0)
    with pytest.raises(BudgetError, match="latency"):
        allocate(groups, scores, Knapsack("a"), "latency=2ms")
    with pytest.raises(BudgetError, match="cannot be reached") as caught:
        allocate(groups, scores, Knapsack("a"), "macs=0.0001")
    assert caught.value.nearest
    with pytest.raises(BudgetError, match="without a budget"):
        allocate(groups, scores, Knapsack("a"), None)
    with pytest.raises(UnknownNameError):
        allocate(groups, scores, Knapsack("b"), "macs=0.5")


@pytest.mark.parametrize(
    "options", [{"levels": 1}, {"nodes": 0}, {"gap": 1.0}, {"gap": -0.1}, {"floor": 0}]
)
def test_options_that_make_no_sense(options: dict[str, int | float]) -> None:
    with pytest.raises(OptionError):
        Knapsack("a", **options)  # type: ignore[arg-type]


def test_without_the_solver_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "highspy", None)
    groups = channels(net())
    with pytest.raises(SecateurError) as caught:
        allocate(groups, drawn(groups, 0), sec.Knapsack("a"), "macs=0.5")
    assert "secateur[solver]" in str(caught.value)


def test_a_group_narrower_than_round_to_stays_whole() -> None:
    groups = rows([16, 3])
    plan = allocate(groups, drawn(groups, 0), Knapsack("a", round_to=4), "macs=0.8")
    assert bool(plan.masks["g1"].all())
    assert int(plan.masks["g0"].sum()) % 4 == 0


@pytest.mark.parametrize("seed", range(5))
def test_units_worth_less_than_nothing_do_not_come_back(seed: int) -> None:
    groups = rows([5, 16, 7])
    draw = torch.Generator().manual_seed(seed)
    scores = Scores({"a": {g.name: torch.randn(g.size, generator=draw) for g in groups}})
    for to in ("macs=0.8", "units=0.9"):
        plan = allocate(groups, scores, Knapsack("a", levels=2), to)
        ranked = allocate(groups, scores, Ranked("a"), to)
        assert kept(scores, dict(plan.masks)) >= kept(scores, dict(ranked.masks))


@pytest.mark.parametrize("how", [Knapsack("a"), Ranked("a")])
def test_a_budget_on_what_there_is_none_of_holds(how: Knapsack | Ranked) -> None:
    groups = replace(channels(net()), contractions=())
    plan = allocate(groups, drawn(groups, 0), how, ["params=0.5", "macs=0.5"])
    assert [verdict["met"] for verdict in plan.about["budgets"]] == [True, True]

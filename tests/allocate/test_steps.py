"""Jumps from one measured width to the next; latency counted by a table."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import secateur as sec
from secateur.allocate.goals import goals
from secateur.cost import Placed, Prices, Surface, placed, points
from secateur.cost.surface import axis
from secateur.errors import BudgetError, OptionError
from tests.handmade import channels, example, net

MODEL, EXAMPLE = net(32, 48), example()
GROUPS = channels(MODEL)


def drawn(seed: int) -> sec.Scores:
    draw = torch.Generator().manual_seed(seed)
    return sec.Scores({"a": {g.name: torch.rand(g.size, generator=draw) for g in GROUPS}})


def priced(cost: Callable[[Placed, int, int], float]) -> Prices:
    return Prices(
        tuple(
            (one, Surface(one.outs, one.ins, {p: cost(one, *p) for p in points(one.outs, one.ins)}))
            for one in placed(MODEL, EXAMPLE)
        )
    )


def smooth(one: Placed, outs: int, ins: int) -> float:
    return 1e-6 * math.prod(one.layer.size[1:]) * (10 + outs * ins)


def sixteens(_: Placed, outs: int, ins: int) -> float:
    """Sixteen channels at a time: 8 and 24 take as long as 16 and 32."""
    return 1e-6 * math.ceil(outs / 16) * math.ceil(ins / 16)


SMOOTH = priced(smooth)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_latency_is_counted_where_there_are_prices(share: float) -> None:
    pytest.importorskip("highspy")
    dense = SMOOTH.seconds(GROUPS, {})
    kept = []
    for how in (sec.Ranked("a"), sec.Knapsack("a"), sec.Steps("a")):
        plan = sec.allocate(GROUPS, drawn(0), how, sec.latency(share), prices=SMOOTH)
        assert SMOOTH.seconds(GROUPS, plan.masks) <= share * dense
        (verdict,) = plan.about["budgets"]
        assert verdict["met"]
        kept.append(sum(float(drawn(0)["a"][n][m].sum()) for n, m in plan.masks.items()))
    assert kept[1] >= kept[0] - 1e-4


@settings(max_examples=15)
@given(st.integers(0, 1000))
def test_every_jump_saves_time_and_is_the_cheapest_of_all(seed: int) -> None:
    """Against a plain search over all groups and widths at every step."""
    scores = drawn(seed)
    order = sec.Steps("a").order(GROUPS, scores, SMOOTH)
    assert order.steps > 2
    for step in range(order.steps):
        before, after = order.masks(step), order.masks(step + 1)

        def loss(to: dict[str, torch.Tensor], before: dict[str, torch.Tensor] = before) -> float:
            left = [
                {n: float(scores["a"][n][m[n]].double().sum()) for n in to} for m in (before, to)
            ]
            every = {name: float(scores["a"][name].double().sum()) for name in to}
            gone = sum(every[name] * math.log(left[0][name] / left[1][name]) for name in to)
            saved = SMOOTH.seconds(GROUPS, before) - SMOOTH.seconds(GROUPS, to)
            return gone / saved if saved > 1e-15 else math.inf

        others = []
        for group in GROUPS:
            for width in axis(group.size):
                if width < int(before[group.name].sum()):
                    mask = torch.ones(group.size, dtype=torch.bool)
                    lowest = scores["a"][group.name].sort(stable=True).indices
                    mask[lowest[: group.size - width]] = False
                    others.append(loss({**before, group.name: mask}))
        assert loss(after) == pytest.approx(min(others))


@settings(max_examples=15)
@given(st.integers(0, 1000), st.sampled_from([0.3, 0.5, 0.7]), st.booleans())
def test_of_two_groups_no_widths_that_fit_lose_less(seed: int, share: float, macs: bool) -> None:
    """Against all pairs of widths, counted one by one."""
    scores, prices = drawn(seed), priced(sixteens) if seed % 2 else SMOOTH
    budgets = [sec.latency(share), *([sec.macs(0.6)] if macs else [])]
    cut = [group for group in GROUPS if group.removable]
    assert [group.name for group in cut] == ["conv1", "conv2"]

    def masks(widths: Sequence[int]) -> dict[str, torch.Tensor]:
        found = {}
        for group, width in zip(cut, widths, strict=True):
            lowest = scores["a"][group.name].sort(stable=True).indices[: group.size - width]
            found[group.name] = torch.ones(group.size, dtype=torch.bool)
            found[group.name][lowest] = False
        return found

    def loss(of: Mapping[str, torch.Tensor]) -> float:
        every = {g.name: scores["a"][g.name].double() for g in cut}
        return sum(float(e.sum() * (e.sum() / e[of[n]].sum()).log()) for n, e in every.items())

    wanted = goals(GROUPS, budgets, prices)
    fit = [
        found
        for widths in itertools.product(axis(32), axis(48))
        if all(goal.met(found := masks(widths)) for goal in wanted)
    ]
    if not fit:
        with pytest.raises(BudgetError, match="cannot be reached"):
            sec.allocate(GROUPS, scores, sec.Steps("a"), budgets, prices=prices)
        return
    plan = sec.allocate(GROUPS, scores, sec.Steps("a"), budgets, prices=prices)
    assert all(goal.met(plan.masks) for goal in wanted)
    assert loss(plan.masks) == pytest.approx(min(map(loss, fit)))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_what_costs_no_time_stays(share: float) -> None:
    """Of no group a larger measured width takes as long."""
    prices = priced(sixteens)
    plan = sec.allocate(GROUPS, drawn(5), sec.Steps("a"), sec.latency(share), prices=prices)
    now = prices.seconds(GROUPS, plan.masks)
    for name, mask in plan.masks.items():
        for width in axis(mask.numel()):
            if width > int(mask.sum()):
                wider = torch.arange(mask.numel()) < width
                assert prices.seconds(GROUPS, {**plan.masks, name: wider}) > now


def test_widths_that_save_nothing_are_never_chosen() -> None:
    prices = priced(sixteens)
    order = sec.Steps("a").order(GROUPS, drawn(1), prices)
    found = [order.masks(step) for step in range(order.steps + 1)]
    assert {int(masks["conv1"].sum()) for masks in found} == {32, 16}
    times = [prices.seconds(GROUPS, masks) for masks in found]
    assert all(late < early for early, late in itertools.pairwise(times))


def test_a_unit_of_scores_is_one_for_all_groups() -> None:
    """A group whose scores are a thousandth of another's loses all that it can before the other."""
    scores = {n: v * (1e-6 if n == "conv2" else 1.0) for n, v in drawn(4)["a"].items()}
    order = sec.Steps("a").order(GROUPS, sec.Scores({"a": scores}), SMOOTH)
    masks = next(order.masks(step) for step in range(1, order.steps + 1)
                 if not order.masks(step)["conv1"].all())  # fmt: skip
    assert int(masks["conv2"].sum()) == axis(48)[0]


@pytest.mark.parametrize("value", [0.0, -1.0, 2.0])
def test_scores_that_tell_nothing(value: float) -> None:
    scores = sec.Scores({"a": {g.name: torch.full((g.size,), value) for g in GROUPS}})
    assert sec.Steps("a").order(GROUPS, scores, SMOOTH).steps > 2


def test_a_slower_smaller_width_is_passed_over() -> None:
    """24 of 32 channels take longer than all 32, as kernels for blocks of 16 have it."""

    def odd(one: Placed, outs: int, ins: int) -> float:
        return smooth(one, outs, ins) * (2.0 if outs == 24 or ins == 24 else 1.0)

    order = sec.Steps("a").order(GROUPS, drawn(2), priced(odd))
    widths = {int(order.masks(step)["conv1"].sum()) for step in range(order.steps + 1)}
    assert 24 not in widths
    assert len(widths) > 1


def test_the_floor_holds() -> None:
    order = sec.Steps("a", floor=0.5).order(GROUPS, drawn(3), SMOOTH)
    for group in GROUPS:
        assert int(order.masks(order.steps)[group.name].sum()) == group.size // 2


def test_what_it_cannot_do() -> None:
    with pytest.raises(BudgetError, match="must be measured"):
        sec.allocate(GROUPS, drawn(0), sec.Ranked("a"), sec.latency(0.5))
    with pytest.raises(BudgetError, match="without measured layers"):
        sec.allocate(GROUPS, drawn(0), sec.Steps("a"), "macs=0.5", prices=SMOOTH)
    with pytest.raises(BudgetError, match="cannot be reached"):
        sec.allocate(GROUPS, drawn(0), sec.Steps("a"), sec.latency(0.001), prices=SMOOTH)
    with pytest.raises(OptionError, match="floor"):
        sec.Steps("a", floor=0)

"""Widths that are multiples, each group of its own; latency counted by a table."""

from __future__ import annotations

import pytest
import torch

import secateur as sec
from secateur.cost import Prices, Surface, placed, points
from secateur.errors import BudgetError, OptionError
from tests.handmade import channels, example, net

MODEL, EXAMPLE = net(32, 48), example()
GROUPS = channels(MODEL)
EACH = sec.Multiples({"conv1": 8, "conv2": 16})
SCORES = sec.Scores(
    {
        name: {
            g.name: torch.rand(g.size, generator=torch.Generator().manual_seed(seed))
            for g in GROUPS
        }
        for seed, name in enumerate(("a", "b"))
    }
)
PRICES = Prices(
    tuple(
        (
            one,
            Surface(
                one.outs, one.ins, {p: 1e-6 * (10 + p[0] * p[1]) for p in points(one.outs, one.ins)}
            ),
        )
        for one in placed(MODEL, EXAMPLE)
    )
)


@pytest.mark.parametrize(
    "how", [sec.Ranked("a", round_to=EACH), sec.Uniform("a", round_to=EACH),
            sec.Tolerance("a", "b", round_to=EACH), sec.Knapsack("a", round_to=EACH)],
    ids=lambda how: type(how).__name__,
)  # fmt: skip
def test_each_group_has_its_own(how: object) -> None:
    if isinstance(how, sec.Knapsack):
        pytest.importorskip("highspy")
    plan = sec.allocate(GROUPS, SCORES, how, "macs=0.5")  # type: ignore[arg-type]
    widths = {name: int(mask.sum()) for name, mask in plan.masks.items()}
    assert widths["conv1"] % 8 == widths["conv2"] % 16 == 0
    assert "Multiples(1 groups of 8, 1 groups of 16)" in plan.about["allocator"]


def test_a_group_that_is_not_named_may_have_any_width() -> None:
    some = sec.Uniform("a", round_to=sec.Multiples({"conv1": 8}))
    one = sec.allocate(GROUPS, SCORES, some, "macs=0.51").masks
    plain = sec.allocate(GROUPS, SCORES, sec.Uniform("a"), "units=0.55").masks
    assert int(one["conv1"].sum()) % 8 == 0
    assert int(one["conv2"].sum()) % 8
    assert int(plain["conv1"].sum()) % 8


@pytest.mark.parametrize("of", [{"conv1": 0}, {"conv1": 2.0}, {"conv1": "8"}])
def test_what_is_no_multiple(of: dict[str, int]) -> None:
    with pytest.raises(OptionError, match="round_to"):
        sec.Ranked("a", round_to=sec.Multiples(of))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_latency_is_counted_where_there_are_prices(share: float) -> None:
    pytest.importorskip("highspy")
    dense = PRICES.seconds(GROUPS, {})
    kept = []
    for how in (sec.Ranked("a"), sec.Knapsack("a")):
        plan = sec.allocate(GROUPS, SCORES, how, sec.latency(share), prices=PRICES)
        assert PRICES.seconds(GROUPS, plan.masks) <= share * dense
        (verdict,) = plan.about["budgets"]
        assert verdict["met"]
        kept.append(sum(float(SCORES["a"][n][m].sum()) for n, m in plan.masks.items()))
    assert kept[1] >= kept[0] - 1e-4


def test_without_prices_a_latency_must_be_measured() -> None:
    with pytest.raises(BudgetError, match="must be measured"):
        sec.allocate(GROUPS, SCORES, sec.Ranked("a"), sec.latency(0.5))

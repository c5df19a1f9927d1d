from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import secateur as sec
from secateur.cost import macs, peak_memory_bytes
from secateur.errors import BudgetError
from secateur.measure import Measured, search
from secateur.types.budget import Budget, parse
from tests.handmade import channels, example, net

MODEL = net(24, 32)
GROUPS = channels(MODEL)
SCORES = sec.Scores(
    {"a": {g.name: torch.rand(g.size, generator=torch.Generator().manual_seed(3)) for g in GROUPS}}
)
EXAMPLE = example()
DENSE = float(peak_memory_bytes(MODEL, EXAMPLE))


def at(budgets: Sequence[Budget]) -> sec.Plan:
    return sec.allocate(GROUPS, SCORES, sec.Ranked("a"), list(budgets))


def share(masks: dict[str, Tensor]) -> float:
    return macs(GROUPS, masks) / macs(GROUPS)


def memory(text: str) -> Measured:
    def read(_: sec.Plan, small: nn.Module) -> tuple[float, float]:
        return DENSE, float(peak_memory_bytes(small, EXAMPLE))

    return Measured(parse(text), read)


def worth(text: str) -> Measured:
    """An accuracy that falls with the square of what is gone: 0.9 (1 - gone^2)."""

    def read(plan: sec.Plan, _: nn.Module) -> tuple[float, float]:
        return 0.9, 0.9 * (1 - (1 - share(dict(plan.masks))) ** 2)

    return Measured(parse(text), read)


@pytest.mark.parametrize("to", ["memory=0.8", "memory=0.5", "memory=6kB"])
def test_a_ceiling_holds_and_little_more_would_not(to: str) -> None:
    one = memory(to)
    plan = search(MODEL, at, [one])
    found = one.read(plan, sec.shrink(MODEL, plan))
    assert one.held(*found)
    (verdict,) = plan.about["budgets"]
    assert verdict["met"] is True
    assert verdict["dense"] == DENSE
    kept = share(dict(plan.masks))
    tried = plan.about["search"]
    assert {"macs": kept, "memory": found[1]} in tried
    missed = [t["macs"] for t in tried if not one.held(DENSE, t["memory"])]
    assert not missed or min(missed) <= kept * 1.1
    assert all(t["macs"] <= kept for t in tried if one.held(DENSE, t["memory"]))


def test_an_accuracy_gives_the_smallest_network_that_keeps_it() -> None:
    plan = search(MODEL, at, [], worth("accuracy=-10"))
    kept = share(dict(plan.masks))
    # 0.9 gone^2 = 0.1: a third of the multiply-accumulates may go
    assert kept >= 2 / 3
    assert kept == pytest.approx(2 / 3, abs=0.02)
    assert plan.about["budgets"][0]["reached"] >= -10


def test_several_hold_at_once() -> None:
    plan = search(
        MODEL, at, [memory("memory=0.9")], worth("accuracy=-40"), counted=[parse("params=0.7")]
    )
    verdicts = {v["quantity"]: v["met"] for v in plan.about["budgets"]}
    assert verdicts == {"params": True, "memory": True, "accuracy": True}


def test_counted_budgets_that_are_tight_enough_are_all_there_is() -> None:
    plan = search(MODEL, at, [memory("memory=0.99")], counted=[parse("macs=0.3")])
    assert len(plan.about["search"]) == 1
    assert torch.equal(plan.masks["conv1"], at([parse("macs=0.3")]).masks["conv1"])


def test_out_of_reach() -> None:
    with pytest.raises(BudgetError, match="smallest network") as caught:
        search(MODEL, at, [memory("memory=0.01")])
    assert caught.value.nearest is not None
    assert caught.value.nearest > 0.01
    with pytest.raises(BudgetError, match="cannot be reached: keeping"):
        search(MODEL, at, [memory("memory=0.5")], worth("accuracy=-0.5"))
    late = search(MODEL, at, [memory("memory=0.5")], worth("accuracy=-0.5"), fine_tuned=True)
    assert [v["met"] for v in late.about["budgets"]] == [True, False]
    with pytest.raises(BudgetError, match="nothing to stop at"):
        search(MODEL, at, [])


def test_a_margin_stays_below() -> None:
    wide = memory("memory=0.8")
    narrow = Measured(wide.budget, wide.read, margin=0.3)
    loose, tight = search(MODEL, at, [wide]), search(MODEL, at, [narrow])
    assert tight.about["budgets"][0]["reached"] <= 0.8 / 1.3
    assert share(dict(tight.masks)) <= share(dict(loose.masks))


def test_what_is_told_was_measured_on_the_plan_itself() -> None:
    ceiling = memory("memory=0.9")
    plan = search(MODEL, at, [ceiling], worth("accuracy=-40"))
    told = {v["quantity"]: v for v in plan.about["budgets"]}
    assert told["memory"]["reached"] == pytest.approx(
        peak_memory_bytes(sec.shrink(MODEL, plan), EXAMPLE) / DENSE
    )


def test_a_strict_accuracy_is_looked_for_near_the_dense_network() -> None:
    plan = search(MODEL, at, [], worth("accuracy=-0.3"))
    assert plan.removed >= 1
    assert share(dict(plan.masks)) > 0.95


def test_a_network_that_multiplies_nothing() -> None:
    groups = replace(GROUPS, contractions=())

    def none(budgets: Sequence[Budget]) -> sec.Plan:
        return sec.allocate(groups, SCORES, sec.Ranked("a"), [parse("units=0.5"), *budgets])

    with pytest.raises(BudgetError, match="multiplies nothing"):
        search(MODEL, none, [memory("memory=0.9")], counted=[parse("units=0.9")])


def test_every_try_is_told_as_it_is_made() -> None:
    told: list[tuple[int, str]] = []
    noisy = replace(memory("memory=0.5"), margin=0.03)
    plan = search(MODEL, at, [noisy, memory("memory=9kB")], worth("accuracy=-60"),
                  tell=lambda done, seen: told.append((done, seen)))  # fmt: skip
    tried = plan.about["search"]
    assert [done for done, _ in told] == list(range(1, len(tried) + 1))
    for trial, (_, seen) in zip(tried, told, strict=True):
        share, colon, rest = seen.partition(" % of the multiply-accumulates: ")
        assert colon
        assert float(share) == pytest.approx(100 * trial["macs"], abs=0.06)
        assert f"memory {trial['memory'] / DENSE:.4g} (asked 0.5, aimed at 0.4854), memory" in rest
        assert f"memory {trial['memory']:,.0f} (asked 9,000)" in rest or trial["memory"] < 1000
        if "accuracy" in trial:
            assert f"accuracy {100 * (trial['accuracy'] - 0.9):.4g} (asked -60)" in rest
        held = trial["memory"] * 1.03 <= DENSE / 2
        held = held and trial.get("accuracy", 1.0) >= 0.3 - 1e-9
        assert rest.endswith(": holds" if held else ": does not hold")
    assert any("accuracy" in trial for trial in tried)
    assert {seen.rpartition(": ")[2] for _, seen in told} == {"holds", "does not hold"}

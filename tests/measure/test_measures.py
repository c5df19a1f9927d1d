from __future__ import annotations

import json

import pytest
import torch

from secateur.cost import Latency, macs, params
from secateur.measure import Accuracy, Measures, measure, measures_json
from secateur.types import Plan
from secateur.types.budget import budget
from tests.handmade import channels, example, inside, net, same_state, state_of

FAST = Latency(0.001, 0.0009, 0.002, "torch eager", 2, 1, "cpu")
SLOW = Latency(0.004, 0.003, 0.005, "torch eager", 2, 1, "cpu")
GOOD, WORSE = Accuracy(0.9, 0.88, 0.92, 1000), Accuracy(0.8, 0.77, 0.82, 1000)


def test_a_network_is_counted_on_itself() -> None:
    model = net().train()
    before = state_of(model)
    found = measure(model, example(), latency=FAST, accuracy=GOOD)
    groups = channels(model)
    assert (found.params, found.macs) == (params(groups), macs(groups))
    assert found.weight_bytes == 4 * found.params
    assert found.peak_memory_bytes > 0
    assert (found.latency_s, found.accuracy, found.packed_bytes) == (FAST, GOOD, None)
    assert same_state(model, before)


def test_masked_units_do_not_count_and_cut_ones_are_gone_already() -> None:
    model = net()
    groups = inside(model, "weight")
    plan = Plan(groups, {g.name: torch.arange(g.size) % 2 == 0 for g in groups})
    found = measure(model, example(), plan=plan)
    assert found.params == params(groups, plan.masks) < params(groups)
    assert found.macs == macs(groups, plan.masks)
    assert found.weight_bytes == 4 * params(groups)  # the zeros still lie in memory
    cut = channels(model)
    plan = Plan(cut, {g.name: torch.arange(g.size) > 0 for g in cut})
    small = net(5, 7)
    assert measure(small, example(), plan=plan) == measure(small, example())
    assert measure(model, example(), plan=plan).params == params(cut)  # what it is, not the plan


def test_the_json_has_every_key_of_the_contract() -> None:
    found = Measures(10, 20, 40, 80, None, FAST, {"oneshot": WORSE, "finetuned": GOOD}).to_json()
    assert json.loads(json.dumps(found)) == found
    assert found == {
        "params": 10,
        "macs": 20,
        "weight_bytes": 40,
        "packed_bytes": None,
        "peak_memory_bytes": 80,
        "latency_s": {
            "median": 0.001,
            "p10": 0.0009,
            "p90": 0.002,
            "runtime": "torch eager",
            "batch": 2,
            "threads": 1,
            "device": "cpu",
            "repeats": None,  # not told
        },
        "accuracy": {
            "oneshot": {"value": 0.8, "low": 0.77, "high": 0.82, "n": 1000},
            "finetuned": {"value": 0.9, "low": 0.88, "high": 0.92, "n": 1000},
        },
    }
    bare = Measures(1, 2, 3, 4).to_json()
    assert (bare["latency_s"], bare["accuracy"], bare["packed_bytes"]) == (None, None, None)


@pytest.mark.parametrize(
    ("text", "target", "reached", "met"),
    [
        ("macs", 0.5, 0.5, True),
        ("macs", 0.4, 0.5, False),
        ("params", "30", 25, True),
        ("memory", 0.6, 0.75, False),
        ("latency", "2ms", 0.001, True),
        ("latency", 0.2, 0.25, False),
        ("accuracy", -1.0, -10.0, False),
        ("units", 0.75, 0.5, True),
        ("bytes", 0.5, None, None),
    ],
)
def test_budgets_are_judged_by_what_was_measured(
    text: str, target: float | str, reached: float | None, met: bool | None
) -> None:
    dense = Measures(100, 1000, 400, 80, None, SLOW, GOOD)
    pruned = Measures(25, 500, 100, 60, None, FAST, {"oneshot": GOOD, "finetuned": WORSE})
    groups = channels(net(4, 4))
    plan = Plan(groups, {g.name: torch.arange(4) < 2 for g in groups})
    found = measures_json(dense, pruned, [budget(text, target)], plan)
    assert found["dense"] == dense.to_json()
    assert found["pruned"] == pruned.to_json()
    (verdict,) = found["budgets"]
    assert verdict["quantity"] == text
    assert verdict["met"] is met
    assert verdict["reached"] == (reached if reached is None else pytest.approx(reached))


def test_what_was_not_measured_is_null() -> None:
    bare = Measures(1, 2, 3, 4)
    asked = [budget("latency", 0.5), budget("accuracy", -1.0), budget("units", 0.5)]
    found = measures_json(bare, bare, asked)["budgets"]
    assert [(v["reached"], v["met"]) for v in found] == [(None, None)] * 3

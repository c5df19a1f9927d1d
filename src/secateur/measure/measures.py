"""Everything measured of one network, and of two networks against their budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from secateur.cost.counted import count_macs, count_params, weight_bytes
from secateur.cost.counts import macs, params
from secateur.cost.latency import Latency
from secateur.cost.memory import peak_memory_bytes
from secateur.cost.verdict import verdict
from secateur.measure.accuracy import Accuracy
from secateur.types.budget import Budget
from secateur.types.plan import Plan


@dataclass(frozen=True, slots=True)
class Measures:
    """What one network costs and is worth; None where it was not measured."""

    params: int
    macs: int  # of one forward pass of the example
    weight_bytes: int  # parameters as they lie in memory
    peak_memory_bytes: int  # activations of one forward pass of the example
    packed_bytes: int | None = None  # as a bundle: header and all
    latency_s: Latency | None = None
    accuracy: Accuracy | Mapping[str, Accuracy] | None = (
        None  # or by "oneshot", "recalibrated", ...
    )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, as `measures.json` holds them."""
        reached: dict[str, Any] | None = None
        if isinstance(self.accuracy, Mapping):
            reached = {stage: each.to_json() for stage, each in self.accuracy.items()}
        elif self.accuracy is not None:
            reached = self.accuracy.to_json()
        return {
            "params": self.params,
            "macs": self.macs,
            "weight_bytes": self.weight_bytes,
            "packed_bytes": self.packed_bytes,
            "peak_memory_bytes": self.peak_memory_bytes,
            "latency_s": None if self.latency_s is None else self.latency_s.to_json(),
            "accuracy": reached,
        }


def measure(
    model: nn.Module,
    example: Any,
    *,
    plan: Plan | None = None,
    packed: int | None = None,
    latency: Latency | None = None,
    accuracy: Accuracy | Mapping[str, Accuracy] | None = None,
) -> Measures:
    """Count what can be counted on the network itself, beside what was measured elsewhere.

    Args:
        plan: of a network whose units are masked, not cut out (single weights, kernels): its
            zeros then do not count as parameters or multiply-accumulates. Bytes stay as they lie.
        packed: bytes of the network as a bundle.
        latency: from `cost.latency`, which times the networks that are compared in one run.
        accuracy: from `accuracy`; several where stages are told apart.

    Raises:
        DataError: the network does not run on the example.
    """
    if plan is not None and any(not group.removable for group in plan.groups):
        left, done = params(plan.groups, plan.masks), macs(plan.groups, plan.masks)
    else:
        left, done = count_params(model), count_macs(model, example)
    return Measures(
        params=left,
        macs=done,
        weight_bytes=weight_bytes(model),
        peak_memory_bytes=peak_memory_bytes(model, example),
        packed_bytes=packed,
        latency_s=latency,
        accuracy=accuracy,
    )


def measures_json(
    dense: Measures, pruned: Measures, budgets: Sequence[Budget], plan: Plan | None = None
) -> dict[str, Any]:
    """The contents of `measures.json`: both networks, and every budget with what became of it.

    A budget on what was not measured has `reached` and `met` null.

    Args:
        plan: what the `units` budget is counted on.
    """
    return {
        "dense": dense.to_json(),
        "pruned": pruned.to_json(),
        "budgets": [_judged(budget, dense, pruned, plan) for budget in budgets],
    }


def _judged(budget: Budget, dense: Measures, pruned: Measures, plan: Plan | None) -> dict[str, Any]:
    before, after = _value(budget.quantity, dense), _value(budget.quantity, pruned)
    if budget.quantity == "units" and plan is not None:
        before = float(plan.groups.units)
        after = before - plan.removed
    if before is None or after is None:
        return {"quantity": budget.quantity, "asked": budget.target, "reached": None, "met": None}
    found = verdict(budget, before, after)
    if budget.quantity == "latency" and pruned.latency_s is not None:
        of = pruned.latency_s.to_json()
        found |= {name: of[name] for name in ("runtime", "batch", "threads", "device")}
    return found


def _value(quantity: str, of: Measures) -> float | None:
    """A budgeted quantity; of several accuracies the last stage's."""
    match quantity:
        case "params":
            return of.params
        case "macs":
            return of.macs
        case "bytes":
            return of.packed_bytes
        case "memory":
            return of.peak_memory_bytes
        case "latency":
            return None if of.latency_s is None else of.latency_s.median_s
        case "accuracy":
            if isinstance(of.accuracy, Mapping):
                return [stage.value for stage in of.accuracy.values()][-1]
            return None if of.accuracy is None else of.accuracy.value
    return None

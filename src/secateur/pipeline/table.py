"""The table that a job ends in: each quantity with its unit, dense beside pruned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from secateur.cost.verdict import number

_STAGES = {
    "oneshot": "one-shot",
    "recalibrated": "recalibrated",
    "finetuned": "fine-tuned",
    "quantized": "quantised",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One line, as text; empty where there is nothing to say."""

    name: str
    dense: str
    pruned: str
    change: str


def table(measures: Mapping[str, Any]) -> list[Row]:
    """The rows of `measures.json`."""
    dense, pruned = measures["dense"], measures["pruned"]
    rows = [_count("parameters", dense["params"], pruned["params"])]
    timed = dense["latency_s"]
    size = measures.get("batch") or (timed["batch"] if timed else None)
    batch = f", batch {size}" if size else ""
    rows.append(_count(f"MACs{batch}", dense["macs"], pruned["macs"]))
    rows.append(_bytes("weights", dense["weight_bytes"], pruned["weight_bytes"]))
    if dense["packed_bytes"] and pruned["packed_bytes"]:
        rows.append(_bytes("packed", dense["packed_bytes"], pruned["packed_bytes"]))
    rows.append(
        _bytes(f"peak activations{batch}", dense["peak_memory_bytes"], pruned["peak_memory_bytes"])
    )
    if timed and pruned["latency_s"]:
        rows.append(_latency(timed, pruned["latency_s"]))
    stages = _STAGES | ({"oneshot": "trained with its masks"} if measures.get("learned") else {})
    return [*rows, *_accuracies(dense["accuracy"], pruned["accuracy"], stages)]


def budget_line(budget: Mapping[str, Any]) -> str:
    """What became of a budget: "macs: asked 0.5, reached 0.4987: met"."""
    verdict = {True: "met", False: "MISSED", None: "not measured"}[budget["met"]]
    reached = "" if budget["reached"] is None else f", reached {number(budget['reached'])}"
    missed = budget["met"] is False and budget["asked"] > 0.0
    over = f" by {100 * (budget['reached'] / budget['asked'] - 1):.2g} %" if missed else ""
    on = f" ({_on(budget)})" if "runtime" in budget else ""
    return f"{budget['quantity']}{on}: asked {number(budget['asked'])}{reached}: {verdict}{over}"


def _on(timed: Mapping[str, Any]) -> str:
    """What a latency is one of: "onnxruntime 1.31.1, batch 16, cpu, 1 thread"."""
    threads = f"{timed['threads']} thread" + "s" * (timed["threads"] > 1)
    return f"{timed['runtime']}, batch {timed['batch']}, {timed['device']}, {threads}"


def _count(name: str, dense: int, pruned: int) -> Row:
    return Row(name, f"{dense:,}", f"{pruned:,}", _kept(dense, pruned))


def _bytes(name: str, dense: int, pruned: int) -> Row:
    unit, size = ("MB", 1e6) if dense >= 1e6 else ("kB", 1e3)
    return Row(
        f"{name}, {unit}", f"{dense / size:,.3f}", f"{pruned / size:,.3f}", _kept(dense, pruned)
    )


def _latency(dense: Mapping[str, Any], pruned: Mapping[str, Any]) -> Row:
    return Row(
        f"latency, ms, {_on(dense)}",
        _spread(dense),
        _spread(pruned),
        _kept(dense["median"], pruned["median"]),
    )


def _spread(timed: Mapping[str, Any]) -> str:
    """The median, and between what a tenth was faster and a tenth slower."""
    return f"{1e3 * timed['median']:,.2f} [{1e3 * timed['p10']:,.2f}, {1e3 * timed['p90']:,.2f}]"


def _accuracies(
    dense: Mapping[str, Any] | None, pruned: Mapping[str, Any] | None, stages: Mapping[str, str]
) -> Iterator[Row]:
    if dense is not None:
        yield Row("accuracy, % [95 % interval]", _interval(dense), "", "")
    for stage, reached in (pruned or {}).items():
        lost = "" if dense is None else f"{100 * (reached['value'] - dense['value']):+.2f} points"
        yield Row(f"  {stages.get(stage, stage)}", "", _interval(reached), lost)


def _interval(accuracy: Mapping[str, Any]) -> str:
    value, low, high = (100 * accuracy[key] for key in ("value", "low", "high"))
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _kept(dense: float, pruned: float) -> str:
    return f"{100 * pruned / dense:.1f} % kept" if dense else ""

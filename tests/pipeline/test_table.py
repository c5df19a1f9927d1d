"""The table: each quantity with its unit."""

from __future__ import annotations

from secateur.cost import Latency
from secateur.measure import Accuracy, Measures, measures_json
from secateur.pipeline.table import budget_line, table
from secateur.types.budget import accuracy, latency, macs, nbytes


def _measures(scale: float, reached: object) -> Measures:
    time = Latency(2e-3 * scale, 1.5e-3 * scale, 3e-3 * scale, "torch eager", 1, 1, "cpu")
    return Measures(
        params=int(1_000_000 * scale),
        macs=int(31_021_952 * scale),
        weight_bytes=int(4_000_000 * scale),
        peak_memory_bytes=int(250_000 * scale),
        latency_s=time,
        accuracy=reached,  # type: ignore[arg-type]
    )


DENSE = _measures(1.0, Accuracy(0.925, 0.91, 0.94, 2000))
STAGES = {"oneshot": Accuracy(0.5, 0.4, 0.6, 2000), "finetuned": Accuracy(0.92, 0.9, 0.93, 2000)}


def test_every_row() -> None:
    rows = table(measures_json(DENSE, _measures(0.5, STAGES), [macs(0.5)]))
    assert [(row.name, row.dense, row.pruned, row.change) for row in rows] == [
        ("parameters", "1,000,000", "500,000", "50.0 % kept"),
        ("MACs, batch 1", "31,021,952", "15,510,976", "50.0 % kept"),
        ("weights, MB", "4.000", "2.000", "50.0 % kept"),
        ("peak activations, batch 1, kB", "250.000", "125.000", "50.0 % kept"),
        (
            "latency, ms, torch eager, batch 1, cpu, 1 thread",
            "2.00 [1.50, 3.00]",
            "1.00 [0.75, 1.50]",
            "50.0 % kept",
        ),
        ("accuracy, % [95 % interval]", "92.50 [91.00, 94.00]", "", ""),
        ("  one-shot", "", "50.00 [40.00, 60.00]", "-42.50 points"),
        ("  fine-tuned", "", "92.00 [90.00, 93.00]", "-0.50 points"),
    ]


def test_what_was_not_measured_has_no_row() -> None:
    bare = Measures(params=10, macs=0, weight_bytes=40, peak_memory_bytes=8)
    rows = table(measures_json(bare, bare, []))
    assert [row.name for row in rows] == [
        "parameters",
        "MACs",
        "weights, kB",
        "peak activations, kB",
    ]
    assert rows[1].change == ""  # nothing of nothing


def test_budgets_are_told() -> None:
    budgets = [macs(0.5), macs("10M"), latency("2ms"), nbytes(0.5), accuracy(-1)]
    told = measures_json(DENSE, _measures(0.5, STAGES), budgets)["budgets"]
    assert [budget_line(budget) for budget in told] == [
        "macs: asked 0.5, reached 0.5: met",
        "macs: asked 10,000,000, reached 15,510,976: MISSED by 55 %",
        "latency (torch eager, batch 1, cpu, 1 thread): asked 0.002, reached 0.001: met",
        "bytes: asked 0.5: not measured",
        "accuracy: asked -1, reached -0.5: met",
    ]

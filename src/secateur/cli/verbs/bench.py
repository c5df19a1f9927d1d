"""`secateur bench`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from secateur import data
from secateur.cli.asked import Bench
from secateur.cli.screen import progress, show_json, show_table
from secateur.pipeline.bench import BATCHES, bench, runtimes_named

_NAMES = (
    "runtime",
    "batch",
    "dense, ms",
    "pruned, ms",
    "latency kept, %",
    "MACs kept, %",
    "realised",
)


def run(asked: Bench) -> int:
    """Time both networks, and show the table."""
    runtimes = runtimes_named(asked.runtime or ())
    with progress() as report:
        found = bench(
            asked.run,
            data.load,
            runtimes,
            batches=asked.batch or BATCHES,
            threads=asked.threads,
            repeats=asked.repeats,
            report=report,
        )
    if asked.json:
        show_json(found)
        return 0
    kept = 100 * found["macs"]["kept"]
    show_table(_NAMES, [_row(row, kept) for row in found["rows"] if "failed" not in row])
    for row in found["rows"]:
        if "failed" in row:
            typer.echo(f"{row['runtime']}, batch {row['batch']}: not run: {row['failed']}")
    threads = f"{asked.threads} thread" + "s" * (asked.threads > 1)
    typer.echo(
        f"{asked.repeats} repeats in turns, {threads}: median [p10, p90]; realised is the speed-up over"
        " what the MACs promise"
    )
    for hint in found["hints"]:
        typer.echo(f"hint: {hint}")
    return 0


def _row(row: Mapping[str, Any], kept: float) -> tuple[str, ...]:
    return (
        row["version"],
        str(row["batch"]),
        _spread(row["dense"], 1e3, 3),
        _spread(row["pruned"], 1e3, 3),
        _spread(row["latency_kept"], 1e2, 1),
        f"{kept:.1f}",
        f"{row['realised']:.2f}",
    )


def _spread(values: Mapping[str, float], unit: float, digits: int) -> str:
    median, p10, p90 = (f"{unit * values[k]:.{digits}f}" for k in ("median", "p10", "p90"))
    return f"{median} [{p10}, {p90}]"

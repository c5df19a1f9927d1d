"""What is seen: results on stdout, progress on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from secateur.pipeline.certificates import plain
from secateur.pipeline.progress import Progress, Report
from secateur.pipeline.table import budget_line, table


def show_json(document: Mapping[str, Any]) -> None:
    """One JSON document on the process's own stdout, wherever `print` goes meanwhile."""
    text = json.dumps(plain(document), indent=2, ensure_ascii=False, allow_nan=False)
    typer.echo(text, file=sys.__stdout__)


def show_table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on stdout: the first column to the left, the others to the right."""
    # wide enough for every row, also where stdout is a file: numbers must not be cut
    console = Console(highlight=False, width=200)
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for i, name in enumerate(names):
        shown.add_column(name, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        shown.add_row(*row)
    console.print(shown)


def show_measures(measures: Mapping[str, Any]) -> None:
    """The table of measures, then the budgets, on stdout."""
    rows = [(row.name, row.dense, row.pruned, row.change) for row in table(measures)]
    show_table(("", "dense", "pruned", ""), rows)
    for budget in measures["budgets"]:
        typer.echo(f"budget {budget_line(budget)}")
    for name, why in measures.get("unmeasured", {}).items():
        typer.echo(f"{name}: not measured, {why}")
    rounded = measures.get("quantized")
    if rounded:
        near = "".join(f"\n    {name}: nearest, {why}" for name, why in rounded["nearest"].items())
        calibrated = len(rounded["calibrated"])
        typer.echo(f"quantised to {rounded['bits']} bits: {calibrated} weights calibrated{near}")
    for name, done in measures.get("repairs", {}).items():
        left = "".join(f"\n    {layer}: left, {why}" for layer, why in done["left"].items())
        typer.echo(f"{name}: {len(done['changed'])} layers repaired{left}")


@contextmanager
def progress() -> Iterator[Report]:
    """A bar on stderr; where stderr is no terminal, a line as each stage begins.

    Either way a line for every step that found something worth telling.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines()
        return
    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    with bar:
        task, stage = bar.add_task(""), ""

        def report(now: Progress) -> None:
            nonlocal task, stage
            if now.done == 0 or now.stage != stage:  # a task keeps a total that it once had
                bar.remove_task(task)
                task, stage = bar.add_task(now.stage, total=now.of), now.stage
            bar.update(task, completed=now.done, total=now.of)
            if now.seen:
                console.print(_seen(now), markup=False, highlight=False, soft_wrap=True)

        yield report


def _seen(now: Progress) -> str:
    return f"    {now.stage} {now.done}: {now.seen}"


def _lines() -> Report:
    stage = ""

    def report(now: Progress) -> None:
        nonlocal stage
        if now.done == 0 or now.stage != stage:
            stage = now.stage
            typer.echo(stage, err=True)
        if now.seen:
            typer.echo(_seen(now), err=True)

    return report

"""`secateur prune`."""

from __future__ import annotations

import dataclasses

import typer

from secateur import data
from secateur.cli.asked import Prune
from secateur.cli.screen import progress, show_json, show_measures
from secateur.pipeline import Request, task_of
from secateur.pipeline import run as run_request


def run(asked: Prune) -> int:
    """Prune, and show what came of it."""
    request = request_of(asked)
    loaded = data.load(request.data) if request.data is not None else None
    with progress() as report:
        result = run_request(request, asked.out, loaded, report)
    missing = left_out(request)
    if asked.json:
        show_json(
            {
                "run": str(asked.out),
                "left_out": missing,
                "measures": result.measures,
                "certificate": result.certificate.to_json(),
            }
        )
    else:
        show_measures(result.measures)
        if result.recipe:
            typer.echo(f"recipe {result.recipe}")
        if request.scores is not None:
            typer.echo(f"decided by the scores in {request.scores}")
        typer.echo(f"by {result.decision}")
        if missing:
            typer.echo(f"left out without data: {', '.join(missing)}")
        typer.echo(f"certificate {result.certificate}\nwritten to {asked.out}")
    return 0 if result.holds else 1


def left_out(request: Request) -> list[str]:
    """What could not be done for want of data."""
    if request.data is not None:
        return []
    task = task_of(request)
    again = task.recalibrate
    if again is None:
        again = "least_squares" not in task.repairs
    return ["accuracy", *task.repairs, *["recalibration"] * again]


def request_of(asked: Prune) -> Request:
    """The same as a request: what is given several times as a tuple, no folder."""
    values = {field.name: getattr(asked, field.name) for field in dataclasses.fields(Request)}
    return Request(
        **values | {name: tuple(values[name] or ()) for name in ("to", "keep", "repair")}
    )

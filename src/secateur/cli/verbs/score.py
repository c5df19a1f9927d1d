"""`secateur score`."""

from __future__ import annotations

import typer

from secateur import data
from secateur.cli.asked import Score
from secateur.cli.screen import progress, show_json
from secateur.errors import OptionError
from secateur.pipeline import Request, score_once
from secateur.pipeline.stamp import stamp_of


def run(asked: Score) -> int:
    """Score a network, and say what was scored."""
    if asked.method is not None and asked.saliency:
        raise OptionError(
            "a method says by itself what is scored",
            where="saliency",
            hint="give --method, or one --saliency or several",
        )
    request = Request(
        model=asked.model,
        weights=asked.weights,
        data=asked.data,
        example=asked.example,
        method=asked.method,
        granularity=asked.granularity,
        keep=tuple(asked.keep or ()),
        samples=asked.samples,
        seed=asked.seed,
    )
    loaded = data.load(asked.data) if asked.data is not None else None
    with progress() as report:
        scores = score_once(request, tuple(asked.saliency or ()), asked.out, loaded, report)
    if asked.json:
        scored = {name: scores.about[name] for name in scores}
        show_json({"file": str(asked.out), "scores": scored, "taken_on": stamp_of(scores)})
        return 0
    for name, by_group in scores.items():
        units = sum(values.numel() for values in by_group.values())
        typer.echo(f"{name}: {scores.about[name]}, {units:,} units in {len(by_group)} groups")
    typer.echo(f"written to {asked.out}")
    return 0

"""`secateur verify`."""

from __future__ import annotations

import dataclasses

import typer

from secateur import data
from secateur.cli.asked import Verify
from secateur.cli.screen import show_json
from secateur.pipeline import verify


def run(asked: Verify) -> int:
    """Check a run, and say what was looked at."""
    checks = list(verify(asked.run, data.load))
    holds = all(check.holds for check in checks)
    if asked.json:
        listed = [dataclasses.asdict(check) for check in checks]
        show_json({"run": str(asked.run), "holds": holds, "checks": listed})
        return 0 if holds else 1
    for check in checks:
        seen = f": {check.seen}" if check.seen else ""
        typer.echo(f"{'ok    ' if check.holds else 'FAILED'}  {check.what}{seen}")
    typer.echo(f"{asked.run} {'holds' if holds else 'does NOT hold'}")
    return 0 if holds else 1

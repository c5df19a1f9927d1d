"""`secateur unpack`."""

from __future__ import annotations

import typer

from secateur.cli.asked import Unpack
from secateur.cli.screen import show_json
from secateur.pipeline import unpack_run


def run(asked: Unpack) -> int:
    """Make a folder, and say what is in it."""
    network = unpack_run(asked.file, asked.out, asked.model, base=asked.base, trust=asked.trust)
    numbers = sum(parameter.numel() for parameter in network.parameters())
    if asked.json:
        show_json({"run": str(asked.out), "parameters": numbers})
    else:
        typer.echo(f"{numbers:,} parameters; unpacked to {asked.out}")
    return 0

"""`secateur pack`."""

from __future__ import annotations

import typer

from secateur.cli.asked import Pack
from secateur.cli.screen import show_json
from secateur.pipeline import pack


def run(asked: Pack) -> int:
    """Pack a run, and show where the bytes are."""
    packed = pack(
        asked.run, asked.out, base=asked.base, bits=asked.bits, dtype=asked.dtype, bare=asked.bare
    )
    if asked.json:
        show_json(packed.to_json())
    else:
        typer.echo(f"{packed}\nwritten to {asked.out}")
    return 0

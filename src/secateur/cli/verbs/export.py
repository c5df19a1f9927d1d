"""`secateur export`."""

from __future__ import annotations

import typer

from secateur import data
from secateur.cli.asked import Export
from secateur.cli.screen import show_json
from secateur.pipeline.exporting import certificate_of, export_run, find_format


def run(asked: Export) -> int:
    """Export, and say what was compared."""
    how = find_format(asked.format, asked.out)
    done, document = export_run(asked.run, asked.out, how, data.load, asked.tolerance)
    if asked.json:
        show_json(document)
    else:
        typer.echo(f"{done}\ncertificate: {certificate_of(asked.out)}")
    return 0

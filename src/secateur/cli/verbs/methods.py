"""`secateur methods`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

import typer

from secateur.cli.asked import Methods
from secateur.cli.screen import show_json
from secateur.export import FORMATS
from secateur.pipeline import RECIPES, SALIENCIES
from secateur.pipeline.allocators import ALLOCATORS
from secateur.pipeline.granularities import GRANULARITIES
from secateur.pipeline.methods import COMPOSITIONS
from secateur.runtime import RUNTIMES

_TABLES: dict[str, Mapping[str, Any]] = {
    "saliencies": SALIENCIES,
    "compositions": COMPOSITIONS,
    "recipes": RECIPES,
    "allocators": ALLOCATORS,
    "granularities": GRANULARITIES,
    "formats": FORMATS,
    "runtimes": {name: type(runtime) for name, runtime in RUNTIMES.items()},
}


def run(asked: Methods) -> int:
    """List every table, each row with what its docstring says."""
    listed = {
        kind: [{"name": name, **_told(found)} for name, found in rows.items()]
        for kind, rows in _TABLES.items()
    }
    if asked.json:
        show_json(listed)
        return 0
    for kind, rows in listed.items():
        typer.echo(kind if rows else f"{kind}: none yet")
        for row in rows:
            paper = f"\n{'':24}{row['paper']}" if row["paper"] else ""
            typer.echo(f"    {row['name']:<20}{row['about']}{paper}")
    return 0


def _told(found: Any) -> dict[str, str]:
    """The first sentence of a docstring, and its source."""
    text = inspect.getdoc(found) or ""
    about = re.split(r"\n\s*\n", text, maxsplit=1)[0]
    source = re.search(r"^Source: (.*?)(?:\n\s*\n|\Z)", text, re.MULTILINE | re.DOTALL)
    return {
        "about": " ".join(about.split()),
        "paper": " ".join(source[1].split()) if source else "",
    }

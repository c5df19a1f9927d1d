"""`secateur inspect`."""

from __future__ import annotations

from typing import Any

import typer

from secateur import data, demo, models
from secateur.cli.asked import Inspect
from secateur.cli.screen import show_json
from secateur.cost import macs, params
from secateur.find import groups
from secateur.lookup import split_options
from secateur.pipeline.example import drawn, from_data
from secateur.pipeline.granularities import find_granularity
from secateur.pipeline.source import source
from secateur.types.call import tensors
from secateur.types.group import Group, Groups

_IMAGE = "1x3x224x224"


def run(asked: Inspect) -> int:
    """Show the groups of a network."""
    granularity = find_granularity(asked.granularity, tuple(asked.keep or ()))
    model = models.load(asked.model, asked.weights)
    shape, text = asked.example, asked.data
    if shape is None and text is None:
        shape, text = _usual(asked.model)
    if shape is not None:
        example = drawn(shape, seed=0)
    else:
        example = from_data(model, source(data.load(text) if text else None), granularity)
    found = groups(model, example, granularity)
    shapes = [list(tensor.shape) for tensor in tensors(example)]
    if asked.json:
        show_json(_document(asked.model, found, shapes))
        return 0
    shown = " and ".join("x".join(map(str, shape)) for shape in shapes)
    typer.echo(f"{params(found):,} parameters; {macs(found):,} MACs on an input of {shown}")
    typer.echo(str(found))
    return 0


def _usual(text: str) -> tuple[str | None, str | None]:
    """(shape, data) where neither was asked for: those that the network was made for."""
    kind, _, name = split_options(text)[0].partition(":")
    if kind == "demo" and name in demo.DEMO_NETWORKS:
        return None, demo.DEMO_NETWORKS[name].data
    return (_IMAGE, None) if kind in ("torchvision", "timm") else (None, None)


def _document(model: str, found: Groups, shapes: list[list[int]]) -> dict[str, Any]:
    return {
        "model": model,
        "example": shapes,
        "params": params(found),
        "macs": macs(found),
        "units": found.units,
        "groups": [_group(group) for group in found],
        "fixed": [
            {
                "name": fixed.name,
                "units": fixed.units,
                "operator": fixed.operator,
                "where": fixed.where,
                "why": fixed.why,
            }
            for fixed in found.fixed
        ],
    }


def _group(group: Group) -> dict[str, Any]:
    return {
        "name": group.name,
        "kind": group.kind,
        "units": group.size,
        "removable": group.removable,
        "pattern": group.pattern,
        "members": [
            {"name": member.name, "dims": member.dims, "role": member.role.value}
            for member in group.members
        ],
        "declared": [
            {"operator": place.operator, "where": place.where} for place in group.declared
        ],
    }

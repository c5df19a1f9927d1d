"""Routers: linear layers by whose outputs a network chooses, or shares its trust among, other parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from secateur.trace.classes import Ids
from secateur.trace.collect import collect
from secateur.trace.records import Block, Chosen, Reason
from secateur.trace.run import trace
from secateur.trace.tape import Tape
from secateur.trace.units import find_units
from secateur.types.equation import Attribute
from secateur.types.group import Groups, Least, Place


@dataclass(frozen=True, slots=True, eq=False)
class Router:
    """A linear layer whose outputs reach a softmax, topk, or the like.

    Attributes:
        module: its path; what it returns has one column for each of `size` choices.
        rows: (tensor, dim) wherever index i belongs to choice i: its weight and bias, what is added
            to its output, and what the choices are then multiplied with.
        least: so many are chosen at once.
        places: where they are chosen: "topk at layers.0 (net.py:12)".
    """

    module: str
    size: int
    rows: tuple[tuple[str, int], ...]
    least: Least
    places: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Routed:
    """What one run shows of the routing in a network.

    Attributes:
        routers: in the order of the network's modules.
        base: products and their costs, without any group.
        shown: module → dim of its first output along which channels lie, and how many.
    """

    routers: tuple[Router, ...]
    base: Groups
    shown: Mapping[str, tuple[int, int]]


def routed(model: nn.Module, example: Any) -> Routed:
    """Run once, and look where outputs of linear layers are chosen from.

    Args:
        example: a tensor; a tuple or list of positional arguments; or a dict of keyword arguments.

    Raises:
        ModelError: the model cannot be copied, or does not run on the example.
    """
    tape = trace(model, example)
    blocks = {(block.name, block.dim): block for block in tape.blocks if block.name}
    found = []
    for path, module in model.named_modules():
        block = blocks.get((f"{path}.weight".lstrip("."), 0))
        if isinstance(module, nn.Linear) and block is not None:
            ids = _ids(tape, block)
            chosen = [c for c in tape.chosen if np.array_equal(tape.classes.find(c.ids), ids)]
            if chosen:
                found.append(_router(tape, path, ids, chosen))
    shown = {
        seen.module: (seen.dim, len(seen.ids))
        for seen in reversed(tape.seen)  # the first one is told last
        if seen.place is Place.OUTPUT and seen.position == 0
    }
    tape.classes.pin(np.arange(len(tape.classes)), tape.number(Reason("", "", "")))
    return Routed(tuple(found), collect(tape, model, find_units(tape)), shown)


def _ids(tape: Tape, block: Block) -> Ids:
    return tape.classes.find(np.arange(block.start, block.start + block.size))


def _router(tape: Tape, path: str, ids: Ids, chosen: Sequence[Chosen]) -> Router:
    most = max(chosen, key=lambda c: c.count)
    rows = [
        (block.name, block.dim)
        for block in tape.blocks
        if block.name and block.size == len(ids) and np.array_equal(_ids(tape, block), ids)
    ]
    places = dict.fromkeys(f"{c.reason.operator} at {c.reason.where}" for c in chosen)
    why = f"{most.count} are chosen at once by {most.reason.operator} at {most.reason.where}"
    named = _attribute(tape, most.reason)
    least = Least(most.count, why + named) if most.count > 1 else Least()
    return Router(path, len(ids), tuple(rows), least, tuple(places))


def _attribute(tape: Tape, reason: Reason) -> str:
    """The attribute by which the code says how many are chosen, where it is one."""
    said = f"a size is an argument of {reason.operator}"
    names = {
        str(number.expression)
        for number in tape.numbers
        if (number.reason.why, number.reason.where) == (said, reason.where)
        and isinstance(number.expression, Attribute)
    }
    return f" ({names.pop()})" if len(names) == 1 else ""

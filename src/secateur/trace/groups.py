"""The groups of coupled channels of a network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from secateur.trace.classes import NONE, Classes, Ids
from secateur.trace.collect import collect
from secateur.trace.field import rows
from secateur.trace.modules import size_attributes
from secateur.trace.records import Reason, Size
from secateur.trace.resolve import Choice, resolve
from secateur.trace.run import trace
from secateur.trace.tape import Tape
from secateur.trace.units import Units, find_units
from secateur.types.equation import Equation, attributes, counts
from secateur.types.group import Groups
from secateur.types.solve import solve


def coupled_channels(
    model: nn.Module, example: Any, keep: Iterable[str] = (), *, heads: bool = False
) -> Groups:
    """Run once, follow the channels, and return every group of coupled ones.

    Args:
        example: a tensor; a tuple or list of positional arguments; or a dict of keyword arguments.
        keep: names of parameters and buffers whose channels must all stay.
        heads: attentions shrink by whole heads wherever they can, and all other channels stay.

    Raises:
        ModelError: the model cannot be copied, or does not run on the example.
    """
    tape = trace(model, example)
    _pin_kept(tape, set(keep))
    _note_attributes(tape, model)
    clean = tape.classes
    while True:
        tape.classes = clean.copy()
        tape.not_all.clear()
        choices = resolve(tape, heads=heads)
        units = find_units(tape)
        if _pin_last_ones(tape, units, clean) or _undo_collapses(tape, units, choices, clean):
            continue
        if heads and _pin_others(tape, units, clean):
            continue
        groups = collect(tape, model, units)
        refused = _contradictions(groups)
        if not refused:
            return replace(groups, equations=_useful(groups))
        for position, equation in refused.items():
            _refuse(tape, clean, units, choices, position, equation)


def _pin_kept(tape: Tape, keep: set[str]) -> None:
    number = tape.number(Reason("keep", "", "was asked to stay"))
    for block in tape.blocks:
        leaf = (block.name, block.dim)
        if block.name in keep and (leaf not in tape.reads or leaf in tape.writes):
            tape.classes.pin(np.arange(block.start, block.start + block.size), number)


def _note_attributes(tape: Tape, model: nn.Module) -> None:
    """Attributes of torch's own modules that repeat a size follow it."""
    start = {(b.name, b.dim): b for b in tape.blocks}
    for name, dim, expression in size_attributes(model):
        block = start.get((name, dim))
        if block is not None:
            ids = np.arange(block.start, block.start + block.size)
            tape.extents.append((block.size, [ids]))
            reason = Reason("size", name, "repeats the size of its parameter")
            tape.sizes.append(Size(expression, len(tape.extents) - 1, reason))


def _pin_last_ones(tape: Tape, units: Units, clean: Classes) -> bool:
    """At least one of some channels must stay, but they are no whole group: keep the first."""
    number = tape.number(Reason("shape", "", "is the last of its kind"))
    last = []
    for members in tape.not_all:
        roots = tape.classes.find(members)
        groups = units.group_of[roots]
        if (groups == NONE).any():
            continue
        sizes = np.bincount(groups, minlength=len(units.sizes))
        if not (sizes == np.array(units.sizes)).any():
            last.append(int(roots[0]))
    clean.pin(np.array(last, np.int64), number)
    return bool(last)


def _undo_collapses(tape: Tape, units: Units, choices: list[Choice], clean: Classes) -> bool:
    """A dim was chosen that couples everything into one unit: let another one be tried."""
    undone = False
    number = tape.number(Reason("shape", "", "all its channels are coupled into one unit"))
    for choice in choices:
        if np.isin(tape.classes.find(choice.ids.numpy().ravel()), units.single).all():
            slices = np.ascontiguousarray(rows(choice.ids, [choice.dim]).numpy())
            clean.pin(clean.all_of(slices), number)
            undone = True
    return undone


def _pin_others(tape: Tape, units: Units, clean: Classes) -> bool:
    """What is no head of an attention stays."""
    ids = np.arange(len(clean))
    groups = units.group_of[tape.classes.find(ids)]
    others = ids[(groups != NONE) & ~np.isin(groups, list(units.heads))]
    clean.pin(others, tape.number(Reason("heads", "", "is no head of an attention")))
    return bool(len(others))


def _contradictions(groups: Groups) -> dict[int, Equation]:
    """Groups whose removal the code's own size arithmetic cannot follow, by position.

    Every group is shrunk alone: by one unit of every sort (units are of one sort when they count alike in
    all sizes), and by half of its units, drawn three times. Then all groups together.
    """
    equations = _entangled(groups.equations)
    if not equations:
        return {}
    used = sorted({i for e in equations for i in (e.extent, *counts(e.expression))})
    weights = _weights(groups, used)
    draw = np.random.default_rng(0)
    refused: dict[int, Equation] = {}
    sizes = np.array([groups.extents[i].size for i in used])
    for position, group in enumerate(groups):
        for removed in _trials(weights.get(group.name), draw):
            left = sizes - removed @ weights[group.name]
            broken = solve(equations, dict(zip(used, left.tolist(), strict=True))).broken
            if broken:
                refused[position] = broken[0]
                break
    return refused or _together(groups, equations, used, weights)


def _weights(groups: Groups, used: Sequence[int]) -> dict[str, Ids]:
    """For every group that the sizes mention: how many indices of each extent a unit holds."""
    weights: dict[str, Ids] = {}
    size = {group.name: group.size for group in groups}
    for column, i in enumerate(used):
        for name, unit_of in groups.extents[i].parts:
            table = weights.setdefault(name, np.zeros((size[name], len(used)), np.int64))
            held = unit_of.numpy()
            table[:, column] += np.bincount(held[held >= 0], minlength=size[name])
    return weights


def _trials(weight: Ids | None, draw: np.random.Generator) -> Iterator[Ids]:
    """Removals to try on one group: 1 for each unit that goes; none where no size mentions it."""
    if weight is None:
        return
    size = len(weight)
    _, one_of_a_sort = np.unique(weight, axis=0, return_index=True)
    for unit in one_of_a_sort[:64]:
        yield np.eye(1, size, unit, dtype=np.int64)[0]
    for _ in range(3):
        yield (draw.permutation(size) < size // 2).astype(np.int64)


def _together(
    groups: Groups, equations: Sequence[Equation], used: Sequence[int], weights: dict[str, Ids]
) -> dict[int, Equation]:
    """Shrink all groups at once: who has a share in an equation that breaks?"""
    draw = torch.Generator().manual_seed(0)
    masks = {}
    for group in groups:
        masks[group.name] = torch.ones(group.size, dtype=torch.bool)
        half = torch.randperm(group.size, generator=draw)[: group.size // 2]
        masks[group.name][half] = False
    live = {i: groups.extents[i].count(masks) for i in used}
    refused: dict[int, Equation] = {}
    for equation in solve(equations, live).broken:
        mentioned = {equation.extent, *counts(equation.expression)}
        for other in equations:
            if attributes(other.expression) & attributes(equation.expression):
                mentioned |= {other.extent, *counts(other.expression)}
        columns = [column for column, i in enumerate(used) if i in mentioned]
        for position, group in enumerate(groups):
            if group.name in weights and weights[group.name][:, columns].any():
                refused.setdefault(position, equation)
    return refused


def _entangled(equations: Iterable[Equation]) -> list[Equation]:
    """Without the equations that only read one attribute off, which nothing else uses."""
    left = list(equations)
    while True:
        uses: dict[Any, int] = {}
        for e in left:
            for a in attributes(e.expression):
                uses[a] = uses.get(a, 0) + 1
        kept = [e for e in left if len(uses_of := attributes(e.expression)) != 1
                or e.expression not in uses_of or uses[e.expression] > 1]  # fmt: skip
        if len(kept) == len(left):
            return left
        left = kept


def _useful(groups: Groups) -> tuple[Equation, ...]:
    """Equations that say something about an attribute; the others have been checked."""
    return tuple(e for e in groups.equations if attributes(e.expression))


def _refuse(
    tape: Tape,
    clean: Classes,
    units: Units,
    choices: list[Choice],
    position: int,
    equation: Equation,
) -> None:
    """Pin a group before dims were chosen, so that another dim may be chosen for its rectangles."""
    operator, _, where = equation.where.partition(" at ")
    number = tape.number(Reason(operator, where, "the code computes a size that cannot follow"))
    chosen = False
    for choice in choices:
        roots = tape.classes.find(choice.ids.numpy().ravel())
        if (units.group_of[roots] == position).any():
            slices = np.ascontiguousarray(rows(choice.ids, [choice.dim]).numpy())
            clean.pin(clean.all_of(slices), number)
            chosen = True
    if not chosen:
        ids = np.arange(len(clean))
        clean.pin(ids[units.group_of[tape.classes.find(ids)] == position], number)


def weights(model: nn.Module, example: Any) -> Groups:
    """The products of one run, without any group: which weights they use, and their costs."""
    tape = trace(model, example)
    everything = np.arange(len(tape.classes))
    tape.classes.pin(everything, tape.number(Reason("", "", "")))
    return collect(tape, model, find_units(tape))

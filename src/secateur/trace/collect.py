"""Write down the units of a run as `Groups`."""

from __future__ import annotations

from collections.abc import Mapping, Set

import numpy as np
import torch
from torch import Tensor, nn

from secateur.trace.classes import FREE, NONE, Ids
from secateur.trace.field import Leaf
from secateur.trace.records import Seen
from secateur.trace.tape import Tape
from secateur.trace.units import Units
from secateur.types.equation import (
    Attribute,
    Count,
    Equation,
    Expression,
    Operation,
    attributes,
    counts,
)
from secateur.types.group import (
    Activation,
    Contraction,
    Declared,
    Extent,
    Fixed,
    Group,
    Groups,
    Member,
    Place,
    Role,
)


def collect(tape: Tape, model: nn.Module, units: Units) -> Groups:
    """All groups with their members, costs, equations, and what is fixed."""
    names = _names(units)
    parameters = dict(model.named_parameters())
    buffers = dict(model.named_buffers())
    extents = _Extents(tape, units, names)
    equations = _equations(tape, extents)
    declared = _declared(tape, units, extents)
    shapes = {name: tuple(t.shape) for name, t in (parameters | buffers).items()}
    members = _members(tape, units, shapes)
    activations = _activations(tape, units, members)
    groups = tuple(
        Group(
            name,
            "head" if i in units.heads else "channel",
            units.sizes[i],
            tuple(members[i]),
            tuple(activations[i]),
            tuple(declared[i]),
        )
        for i, name in enumerate(names)
    )
    contractions = tuple(
        Contraction(
            p.module,
            p.operator,
            p.fixed,
            tuple(extents.position(e) for e in p.extents),
            p.weight,
            p.uses,
        )
        for p in tape.products
    )
    fixed = _fixed(tape, units, parameters)
    return Groups(
        groups, fixed, shapes, frozenset(parameters), tuple(extents.found), contractions, equations
    )


# Weights that a module is known by: torch's own, and the packed ones of an attention.
_OF_MODULE = (".weight", ".in_proj_weight", ".in_proj_bias", ".q_proj_weight")


def _names(units: Units) -> list[str]:
    """A group is called after the module whose weight leads it, or after the parameter."""
    taken: set[str] = set()
    names = []
    for block in units.lead:
        plain = block.name
        for suffix in _OF_MODULE:
            plain = plain.removesuffix(suffix)
        if ".parametrizations.weight." in block.name:
            plain = block.name.partition(".parametrizations.")[0]
        candidates = [plain, block.name, f"{block.name}[{block.dim}]"]
        candidates += [f"{block.name}[{block.dim}]:{i}" for i in range(2, len(units.lead) + 2)]
        name = next(c for c in candidates if c not in taken)
        taken.add(name)
        names.append(name)
    return names


def _parts(units: Units, roots: Ids) -> list[tuple[int, Tensor]]:
    """(group, unit_of) for every group that a row of representatives touches."""
    groups = units.group_of[roots]
    found = []
    for g in np.unique(groups[groups != NONE]):
        unit_of = np.where(groups == g, units.unit_of[roots], NONE)
        found.append((int(g), torch.from_numpy(unit_of)))
    return found


def _members(tape: Tape, units: Units, shapes: Mapping[str, tuple[int, ...]]) -> list[list[Member]]:
    members: list[list[Member]] = [[] for _ in units.sizes]
    for block in tape.blocks:
        if not block.name:
            continue
        roots = tape.classes.find(np.arange(block.start, block.start + block.size))
        leaf = (block.name, block.dim)
        role = Role.SCALES
        if leaf in tape.writes:
            role = Role.WRITES
        elif leaf in tape.reads:
            role = Role.READS
        for g, unit_of in _parts(units, roots):
            masked, shape = block.name not in tape.unmasked, shapes[block.name]
            members[g].append(Member(block.name, shape, (block.dim,), unit_of, role, masked))
    return members


def _activations(tape: Tape, units: Units, members: list[list[Member]]) -> list[list[Activation]]:
    """Where a group's units can be seen: the same dim and units in every run of the module."""
    runs: dict[tuple[str, Place, int, int], list[Seen]] = {}
    for seen in tape.seen:
        at = (seen.module, seen.place, seen.position, seen.dim)
        runs.setdefault(at, []).append(seen)
    weights = {p.weight for p in tape.products if p.weight}
    own = [{m.name for m in found if m.role is Role.WRITES} for found in members]
    times: list[dict[str, int]] = [{} for _ in units.sizes]  # how often each writer was seen first
    activations: list[list[Activation]] = [[] for _ in units.sizes]
    for at, all_seen in runs.items():
        roots = tape.classes.find(all_seen[0].ids)
        if not all(np.array_equal(roots, tape.classes.find(s.ids)) for s in all_seen[1:]):
            continue
        leaves = frozenset[Leaf]().union(*(seen.leaves for seen in all_seen))
        for g, unit_of in _parts(units, roots):
            writer = _writer(tape, leaves, own[g], weights)
            if writer and not all(seen.flow.whole(writer) for seen in all_seen):
                writer = None
            if writer and times[g].setdefault(writer, len(all_seen)) != len(all_seen):
                writer = None  # a layer that runs twice is seen in one of its runs only
            activations[g].append(Activation(*at, unit_of, writer))
    return activations


def _writer(tape: Tape, leaves: Set[Leaf], own: Set[str], weights: Set[str]) -> str | None:
    """The one weight that made a tensor, or a table where no product did; None for several."""
    written = {name for name, dim in leaves if (name, dim) in tape.writes} & own
    made = written & weights or written
    return next(iter(made)) if len(made) == 1 else None


class _Extents:
    """The tape's extents in terms of units, equal ones once."""

    def __init__(self, tape: Tape, units: Units, names: list[str]) -> None:
        self.found: list[Extent] = []
        self._tape, self._units, self.names = tape, units, names
        self._position: dict[int, int] = {}
        self._known: dict[tuple[object, ...], int] = {}

    def position(self, extent: int) -> int:
        """Where an extent of the tape stands in `found`."""
        if extent not in self._position:
            size, along = self._tape.extents[extent]
            parts = []
            for ids in along:
                roots = self._tape.classes.find(ids)
                parts += [(self.names[g], u) for g, u in _parts(self._units, roots)]
            key = (size, tuple((name, u.numpy().tobytes()) for name, u in parts))
            if key not in self._known:
                self._known[key] = len(self.found)
                self.found.append(Extent(size, tuple(parts)))
            self._position[extent] = self._known[key]
        return self._position[extent]

    def expression(self, expression: Expression) -> Expression:
        """An expression of the tape with positions in `found`."""
        if isinstance(expression, Count):
            return Count(self.position(expression.extent))
        if isinstance(expression, Operation):
            left, right = self.expression(expression.left), self.expression(expression.right)
            return Operation(expression.operator, left, right)
        return expression


def _equations(tape: Tape, extents: _Extents) -> tuple[Equation, ...]:
    """What the code said about sizes, without repetitions and without "n = n"."""
    equations: dict[tuple[Expression, int], Equation] = {}
    for size in tape.sizes:
        expression, extent = extents.expression(size.expression), extents.position(size.extent)
        if expression != Count(extent):
            where = f"{size.reason.operator} at {size.reason.where}"
            equations.setdefault((expression, extent), Equation(expression, extent, where))
    return tuple(equations.values())


def _declared(tape: Tape, units: Units, extents: _Extents) -> list[list[Declared]]:
    """For every group the places where masking and removing differ."""
    found: list[dict[Declared, None]] = [{} for _ in units.sizes]
    for statistic in tape.statistics:
        sets = tape.classes.find(statistic.sets)
        partial = sets[(sets != sets[:, :1]).any(1)]
        groups = np.unique(units.group_of[np.unique(partial)])
        for g in groups[groups != NONE]:
            found[g][Declared(statistic.reason.operator, statistic.reason.where)] = None
    position = {name: i for i, name in enumerate(extents.names)}
    holders: dict[Attribute, set[int]] = {}
    for size in tape.sizes:
        for attribute in attributes(size.expression):
            holders.setdefault(attribute, set()).update({size.extent, *counts(size.expression)})
    for number in tape.numbers:
        mentioned = counts(number.expression)
        for attribute in attributes(number.expression):
            mentioned |= holders.get(attribute, set())
        for extent in mentioned:
            for name, _ in extents.found[extents.position(extent)].parts:
                declared = Declared(number.reason.operator, number.reason.where)
                found[position[name]][declared] = None
    return [list(places) for places in found]


def _fixed(tape: Tape, units: Units, parameters: dict[str, nn.Parameter]) -> tuple[Fixed, ...]:
    """Written channels that cannot leave, and parameters without any free channel."""
    found: list[Fixed] = []
    told: set[str] = set()
    seen = {block.name for block in tape.blocks}
    writers = {name for name, _ in tape.writes}
    for block in tape.blocks:
        leaf = (block.name, block.dim)
        if block.name not in parameters:
            continue
        roots = tape.classes.find(np.arange(block.start, block.start + block.size))
        if (units.group_of[roots] != NONE).any():
            told.add(block.name)
        if leaf in tape.writes or (block.name not in writers and leaf not in tape.reads):
            held = _held(tape, units, block.name, roots)
            found += held
            told.update(fixed.name for fixed in held)
    for name, parameter in parameters.items():
        if name not in told:
            why = (
                "has no channels"
                if name in seen or parameter.numel() == 1
                else "took no part in the run"
            )
            found.append(Fixed(name, parameter.numel(), "none", "", why))
    return tuple(found)


def _held(tape: Tape, units: Units, name: str, roots: Ids) -> list[Fixed]:
    """Why some of a block's channels stay, one entry per reason."""
    reasons = tape.classes.reason(roots)
    found = []
    for number in np.unique(reasons[reasons != FREE]):
        r = tape.reasons[number]
        found.append(Fixed(name, int((reasons == number).sum()), r.operator, r.where, r.why))
    alone = int(np.isin(roots, units.single).sum())
    if alone:
        why = "all its channels are coupled into one unit"
        found.append(Fixed(name, alone, "shape", "", why))
    return found

"""Channels meet: elements at the same place of several tensors live and die together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from secateur.trace.classes import Ids
from secateur.trace.field import Field, aligned
from secateur.trace.records import Reason
from secateur.trace.tape import Tape


def meet(
    tape: Tape,
    shape: Sequence[int],
    operands: Sequence[tuple[Tensor, Sequence[Field]]],
    reason: Reason,
) -> list[list[Field]]:
    """Elements at the same place of several tensors live and die together.

    Args:
        shape: what the operands broadcast to.
        operands: tensors (only their shapes count) with the fields to be joined.

    Returns:
        For each operand its fields in the shape's dims; those of different operands are united.
    """
    rank = len(shape)
    fields = [[replace(f, ids=aligned(f.ids, rank)) for f in fs] for _, fs in operands]
    sizes = [(1,) * (rank - t.dim()) + tuple(t.shape) for t, _ in operands]
    for d in range(rank):
        if shape[d] > 1:
            full = [i for i, s in enumerate(sizes) if s[d] > 1]
            bare = [i for i in full if not any(d in f.dims for f in fields[i])]
            if bare and len(bare) < len(full):
                for i in full:
                    tape.pin(fields[i], [d], reason)
    for i, left in enumerate(fields):
        for right in fields[i + 1 :]:
            for f in left:
                for g in right:
                    _join(tape, f, g, left, right, reason)
    return fields


def combine(tape: Tape, fields: Sequence[Sequence[Field]]) -> list[tuple[Field, list[bool]]]:
    """The fields of a result, out of what `meet` returned.

    Returns:
        Each remaining field, and for every operand whether it is zero where that field is dead.
    """
    fresh = [[g for g in map(tape.fresh, operand) if g is not None] for operand in fields]
    kept: list[tuple[Field, list[bool]]] = []
    for i, operand in enumerate(fresh):
        for field in operand:
            others = [(j, f) for j, fs in enumerate(fresh) for f in fs if j != i]
            same = [(j, f) for j, f in others if _covers(f, field) and _covers(field, f)]
            finer = [f for _, f in others if _covers(f, field) and not _covers(field, f)]
            if finer or any(j < i for j, _ in same):
                continue
            zeros = [False] * len(fresh)
            zeros[i] = field.zero
            for j, f in same:
                zeros[j] = zeros[j] or f.zero
            leaves = field.leaves.union(*(f.leaves for _, f in same))
            kept.append((replace(field, leaves=leaves), zeros))
    return kept


def _join(
    tape: Tape, f: Field, g: Field, beside_f: list[Field], beside_g: list[Field], reason: Reason
) -> None:
    """Unite two fields of different operands along the dims that they share."""
    shared = [d for d in f.dims if d in g.dims]
    if not shared:
        return
    a, b = tape.row(f, shared), tape.row(g, shared)
    several_f = [h for h in beside_f if set(h.dims) & set(shared)]
    several_g = [h for h in beside_g if set(h.dims) & set(shared)]
    if len(several_f) == 1 and len(several_g) == 1:
        tape.unify(a, b, reason)
    elif len(several_f) == 1:
        _join_part(tape, b, a, [_spread(tape, h, f, shared) for h in several_g], reason)
    elif len(several_g) == 1:
        _join_part(tape, a, b, [_spread(tape, h, g, shared) for h in several_f], reason)
    elif _pattern(a) == _pattern(b):
        tape.unify(a, b, reason)
    elif not any(_pattern(a) == _pattern(tape.row(h, shared)) for h in several_g):
        tape.pin([f], shared, reason)


def _spread(tape: Tape, field: Field, like: Field, dims: list[int]) -> Ids:
    """A field's rows on some dims, repeated along those where only `like` varies."""
    ids = tape.onto(field, [d for d in dims if d in field.dims]).ids
    sizes = [like.ids.shape[d] if d in dims else 1 for d in range(ids.dim())]
    return np.ascontiguousarray(ids.expand(sizes).reshape(-1).numpy())


def _join_part(tape: Tape, coarse: Ids, fine: Ids, beside: list[Ids], reason: Reason) -> None:
    """`coarse` is one of several fields on these dims: it is the AND of what it covers.

    Together the several fields say where each fine id stands in a grid: that is a rectangle.
    """
    positions = [np.unique(ids, return_inverse=True)[1] for ids in beside]
    shape = [int(p.max()) + 1 for p in positions]
    if np.prod(shape) == len(fine) == len(np.unique(np.ravel_multi_index(positions, shape))):
        grid = np.full(shape, -1, np.int64)
        grid[tuple(positions)] = fine
        tape.rectangle(torch.from_numpy(grid))
    for value in np.unique(coarse):
        covered = np.unique(fine[coarse == value])
        both = np.array([value])
        tape.unify(both, tape.classes.all_of(covered[None, :]), reason)


def _covers(finer: Field, coarser: Field) -> bool:
    """Whether `coarser`, joined with `finer` of another operand, adds nothing to it."""
    if len(coarser.dims) < len(finer.dims):
        return set(coarser.dims) < set(finer.dims)
    return coarser.ids.shape == finer.ids.shape and torch.equal(finer.ids, coarser.ids)


def _pattern(ids: Ids) -> bytes:
    """Which positions hold equal ids, whatever the ids are."""
    _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    return np.ascontiguousarray(first[inverse]).tobytes()

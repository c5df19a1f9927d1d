"""Channels meet: elements at the same place of several tensors live and die together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

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
                    _join(tape, f, g, reason)
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
            same = [
                (j, f) for j, f in others if _covers(tape, f, field) and _covers(tape, field, f)
            ]
            finer = [
                f for _, f in others if _covers(tape, f, field) and not _covers(tape, field, f)
            ]
            if finer or any(j < i for j, _ in same):
                continue
            zeros = [False] * len(fresh)
            zeros[i] = field.zero
            for j, f in same:
                zeros[j] = zeros[j] or f.zero
            leaves = field.leaves.union(*(f.leaves for _, f in same))
            kept.append((replace(field, leaves=leaves), zeros))
    return kept


def _join(tape: Tape, f: Field, g: Field, reason: Reason) -> None:
    """Unite two fields of different operands along the dims that they share."""
    shared = [d for d in f.dims if d in g.dims]
    if shared:
        tape.unify(tape.row(f, shared), tape.row(g, shared), reason)


def _covers(tape: Tape, finer: Field, coarser: Field) -> bool:
    """Whether `coarser`, joined with `finer` of another operand, adds nothing to it.

    Indices that never die are all alike: those of padding and those that met it.
    """
    if len(coarser.dims) < len(finer.dims):
        return set(coarser.dims) < set(finer.dims)
    if coarser.ids.shape != finer.ids.shape:
        return False
    one, other = finer.ids.numpy(), coarser.ids.numpy()
    if np.array_equal(one, other):
        return True
    apart = one != other
    held = tape.classes.immortal(one[apart]) & tape.classes.immortal(other[apart])
    return bool(held.all())

"""Channels meet: elements at the same place of several tensors live and die together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from secateur.trace.classes import NONE
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
            for f, g in _pairs(left, right):
                _join(tape, f, g, reason)
    return fields


def _pairs(left: Sequence[Field], right: Sequence[Field]) -> list[tuple[Field, Field]]:
    """Which fields of two operands are to be united: all that share a dim, as a rule.

    Where both have several fields on the same dims (two dims were viewed as one), those of one pattern
    belong together: heads meet heads and widths meet widths.
    """
    pairs = [(f, g) for f in left for g in right]
    if len(left) < 2 or len(right) < 2:
        return pairs
    key = {id(f): (f.dims, _pattern(f)) for f in (*left, *right)}
    matched = {id(f) for pair in pairs if key[id(pair[0])] == key[id(pair[1])] for f in pair}
    return [
        (f, g)
        for f, g in pairs
        if f.dims != g.dims or not {id(f), id(g)} <= matched or key[id(f)] == key[id(g)]
    ]


def _pattern(field: Field) -> bytes:
    """Which elements have equal ids, whatever these are."""
    ids = field.ids.numpy().ravel()
    _, first, at = np.unique(ids, return_index=True, return_inverse=True)
    return first[at].tobytes()


def combine(tape: Tape, fields: Sequence[Sequence[Field]]) -> list[tuple[Field, list[bool]]]:
    """The fields of a result, out of what `meet` returned.

    Returns:
        Each remaining field, and for every operand whether it is zero where that field is dead.
    """
    fresh = [[g for g in map(tape.fresh, operand) if g is not None] for operand in fields]
    placed = [(i, f, _key(tape, f)) for i, operand in enumerate(fresh) for f in operand]
    kept: list[tuple[Field, list[bool]]] = []
    for i, field, key in placed:
        # Joined with a field of another operand that has its dims and more, it adds nothing.
        if any(j != i and set(field.dims) < set(f.dims) for j, f, _ in placed):
            continue
        same = [(j, f) for j, f, other in placed if other == key]
        if any(j < i for j, _ in same):
            continue
        zeros = [any(j == k and f.zero for j, f in same) for k in range(len(fresh))]
        leaves = field.leaves.union(*(f.leaves for _, f in same))
        kept.append((replace(field, leaves=leaves), zeros))
    return kept


def _key(tape: Tape, field: Field) -> tuple[object, ...]:
    """Equal for fields that tell the same: indices that never die are all alike."""
    ids = field.ids.numpy()
    mortal = np.where(tape.classes.immortal(ids.ravel()), NONE, ids.ravel())
    return (*ids.shape, mortal.tobytes())


def _join(tape: Tape, f: Field, g: Field, reason: Reason) -> None:
    """Unite two fields of different operands along the dims that they share."""
    shared = [d for d in f.dims if d in g.dims]
    if shared:
        tape.unify(tape.row(f, shared), tape.row(g, shared), reason)

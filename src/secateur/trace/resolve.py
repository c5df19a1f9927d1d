"""From classes to units: decide along which dim each rectangle shrinks, and pin what cannot.

A tensor must stay rectangular. Where a label varies over several dims (channels of a grouped convolution,
heads x width, blocks of a pixel shuffle), whole slices along ONE of them are removed, so that the units of
a group are independent. Preferred is a dim whose removal is exact, then the one with the most slices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from secateur.trace.classes import NONE, Ids
from secateur.trace.field import rows, squeezed
from secateur.trace.records import Reason
from secateur.trace.tape import Tape


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """Rectangle `ids` shrinks by whole slices along `dim`."""

    ids: Tensor
    dim: int


def resolve(tape: Tape, *, heads: bool = False) -> list[Choice]:
    """Choose a dim for every rectangle and unite the rest; afterwards only plain classes are left.

    Args:
        heads: whether slices that are heads of an attention come before all others.
    """
    settle = tape.number(Reason("shape", "", "is part of several channels"))
    choices: list[Choice] = []
    tape.classes.settle(settle)
    pending = sorted(_open(tape, tape.rectangles), key=lambda ids: len(_directions(tape, ids)))
    for ids in pending:
        current = _current(tape, ids)
        if current.dim() < 2:
            continue
        directions = _directions(tape, current, heads=heads)
        if not directions:
            tape.classes.pin(current.numpy().ravel(), _reason_of(tape, current, settle))
            continue
        dim = max(directions, key=lambda d: directions[d])
        choices.append(Choice(current, dim))
        for other in range(current.dim()):
            if (
                other != dim
            ):  # nothing leaves along the other dims, so neither does what they are tied to
                tape.classes.pin(tape.classes.all_of(_slices(current, other)), settle)
        slices = _slices(current, dim)
        for other in range(1, slices.shape[1]):
            tape.classes.unify(slices[:, 0], slices[:, other], settle)
        tape.classes.settle(settle)
    _pin_undecided(tape, settle)
    return choices


def _slices(ids: Tensor, dim: int) -> Ids:
    return np.ascontiguousarray(rows(ids, [dim]).numpy())


def _current(tape: Tape, ids: Tensor) -> Tensor:
    """A rectangle with up-to-date ids, without the dims along which it no longer varies."""
    found = torch.from_numpy(tape.classes.find(ids.numpy().ravel())).reshape(ids.shape)
    narrow = squeezed(found)
    return narrow.reshape([s for s in narrow.shape if s > 1])


def _open(tape: Tape, rectangles: list[Tensor]) -> list[Tensor]:
    """Rectangles that still vary over several dims and are not all pinned."""
    current = [_current(tape, ids) for ids in rectangles]
    return [
        ids
        for ids in current
        if ids.dim() > 1 and not bool(tape.classes.immortal(ids.numpy().ravel()).all())
    ]


def _directions(
    tape: Tape, ids: Tensor, *, heads: bool = False
) -> dict[int, tuple[bool, bool, bool, int]]:
    """The dims along which whole slices may go, and how good each is.

    First come heads, if they are asked for (and then heads that must stay hold all the rest), then
    slices that are channels elsewhere already, then those that go exactly, then the many.
    """
    found = {}
    for dim in range(ids.dim()):
        slices = _slices(ids, dim)
        nodes = tape.classes.all_of(slices)
        held = tape.classes.immortal(slices).any(1) | tape.classes.immortal(nodes)
        if held.all():
            if heads and _are_heads(tape, slices):
                return {}
        else:
            elsewhere = bool(tape.classes.has_leaf(nodes[~held]).all())
            asked = heads and _are_heads(tape, slices)
            found[dim] = (asked, elsewhere, _exact(tape, slices), int((~held).sum()))
    return found


def _positions(tape: Tape, slices: Ids) -> Ids:
    """For every id the slice that it lies in; NONE for none, and for NONE itself."""
    position: Ids = np.full(len(tape.classes) + 1, NONE, np.int64)
    position[slices] = np.arange(len(slices))[:, None]
    position[NONE] = NONE
    return position


def _are_heads(tape: Tape, slices: Ids) -> bool:
    """Whether the slices hold the heads of an attention, each whole."""
    position = _positions(tape, slices)
    for ids in tape.heads:
        at = position[tape.classes.find(ids.ravel())].reshape(ids.shape)
        if (at != NONE).all() and (at == at[:, :1]).all() and len(np.unique(at)) > 1:
            return True
    return False


def _exact(tape: Tape, slices: Ids) -> bool:
    """Whether removing whole slices never takes part of a statistic only."""
    if not tape.statistics:
        return True
    position = _positions(tape, slices)
    members, starts = tape.statistic_rows()
    at = position[tape.classes.find(members)]
    high = np.maximum.reduceat(at, starts)
    low = np.minimum.reduceat(at, starts)  # NONE where part of the row lies outside
    return not ((high != NONE) & (low != high)).any()


def _reason_of(tape: Tape, ids: Tensor, otherwise: int) -> int:
    """Why a rectangle cannot shrink: the reason of one of its pinned slices."""
    for dim in range(ids.dim()):
        nodes = tape.classes.all_of(_slices(ids, dim))
        reasons = tape.classes.reason(nodes)
        if (reasons > 0).any():
            return int(reasons[reasons > 0][0])
    reasons = tape.classes.reason(ids.numpy().ravel())
    return int(reasons.max()) or otherwise


def _pin_undecided(tape: Tape, reason: int) -> None:
    """What depends on several channels at once, without being one of them, stays."""
    sizes = np.bincount(
        tape.classes.find(np.arange(len(tape.classes))), minlength=len(tape.classes)
    )
    for node, members in tape.classes.undecided():
        root = int(tape.classes.find(np.array([node]))[0])
        held = bool(tape.classes.immortal(np.array([root]))[0])
        if sizes[root] == 1 and not held:
            continue
        tape.classes.pin(np.array([root]), reason)
        tape.not_all.append(members)
    for block in tape.blocks:  # no parameter may come out empty
        if block.name:
            ids = np.arange(block.start, block.start + block.size)
            tape.not_all.append(np.unique(tape.classes.find(ids)))

"""From resolved classes to units: who lives and dies together, in which group, in which order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from secateur.trace.classes import FREE, NONE, Ids
from secateur.trace.records import Block
from secateur.trace.tape import Tape

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """The units of a network.

    Attributes:
        group_of: for every class representative the position of its group, NONE for what is no unit.
        unit_of: for every class representative its position in the group.
        lead: for every group the block that names it.
        sizes: for every group how many units it has.
        single: representatives of units that are alone in their group and hence cannot leave.
        heads: positions of the groups whose units are heads of an attention.
    """

    group_of: Ids
    unit_of: Ids
    lead: list[Block]
    sizes: list[int]
    single: Ids
    heads: frozenset[int]


def find_units(tape: Tape) -> Units:
    """Group the free classes: units are in one group when one parameter dim writes them both."""
    blocks = [b for b in tape.blocks if b.name]
    ids = _concat([np.arange(b.start, b.start + b.size) for b in blocks])
    block_of = np.repeat(np.arange(len(blocks)), [b.size for b in blocks])
    roots = tape.classes.find(ids)
    free = tape.classes.reason(roots) == FREE
    ids, block_of, roots = ids[free], block_of[free], roots[free]
    writes: Flags = np.array([(b.name, b.dim) in tape.writes for b in blocks], np.bool_)

    # A class that nothing writes (a gain that only scales its input) is placed by all its blocks.
    written = np.zeros(len(tape.classes), np.bool_)
    written[roots[writes[block_of]]] = True
    placing = writes[block_of] | ~written[roots]
    ids, block_of, roots = ids[placing], block_of[placing], roots[placing]

    order = np.lexsort((ids, roots))
    ids, block_of, roots = ids[order], block_of[order], roots[order]
    first = np.flatnonzero(np.diff(roots, prepend=NONE))  # where each class begins
    component = _components(len(blocks), block_of, roots)
    return _number_units(tape, blocks, component[block_of[first]], roots[first], ids[first])


def _number_units(tape: Tape, blocks: list[Block], component: Ids, roots: Ids, ids: Ids) -> Units:
    """Number groups and units in the order in which the run met them."""
    group_of = np.full(len(tape.classes) + 1, NONE, np.int64)
    unit_of = np.full(len(tape.classes) + 1, NONE, np.int64)
    order = np.argsort(ids)
    component, roots, ids = component[order], roots[order], ids[order]
    lead: list[Block] = []
    sizes: list[int] = []
    single = []
    starts = np.array([b.start for b in blocks])
    _, first = np.unique(component, return_index=True)
    for position in np.sort(first):
        members = roots[component == component[position]]
        if len(members) == 1:
            single.append(int(members[0]))
            continue
        group_of[members] = len(lead)
        unit_of[members] = np.arange(len(members))
        lead.append(blocks[int(np.searchsorted(starts, ids[position], "right")) - 1])
        sizes.append(len(members))
    heads: set[int] = set()
    for ids in tape.heads:
        found = tape.classes.find(ids.ravel()).reshape(ids.shape)
        whole = group_of[found[(found == found[:, :1]).all(1), 0]]
        heads.update(whole[whole != NONE].tolist())
    return Units(group_of, unit_of, lead, sizes, np.array(single, np.int64), frozenset(heads))


def _components(count: int, block_of: Ids, roots: Ids) -> Ids:
    """Blocks that share a class, directly or in a chain; arguments sorted by class."""
    together = roots[1:] == roots[:-1]
    pairs = np.unique(np.stack([block_of[:-1][together], block_of[1:][together]], 1), axis=0)
    parent = np.arange(count)

    def find(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = int(parent[i])
        return i

    for a, b in pairs:
        parent[find(int(a))] = find(int(b))
    return np.array([find(i) for i in range(count)], np.int64)


def _concat(arrays: list[Ids]) -> Ids:
    return np.concatenate(arrays) if arrays else np.zeros(0, np.int64)

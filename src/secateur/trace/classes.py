"""Which channels must leave together: union-find with pins and AND nodes, on whole arrays at once.

An id stands for one index of one dim of one tensor, or for an AND node: "dead if and only if all my
members are dead". Ids that are united live or die together. A pinned id never dies. -1 is an index that
belongs to no channel; it never dies either.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]

NONE = -1
FREE = 0  # the reason of an id that is not pinned


class Classes:
    """Classes of ids. Reasons for pins are small positive ints that the caller gives a meaning."""

    def __init__(self) -> None:
        # The last slot is for NONE: parent[-1] == -1, so that arrays may hold NONE anywhere.
        self._parent: Ids = np.full(1024, NONE, np.int64)
        self._reason: npt.NDArray[np.int32] = np.zeros(1024, np.int32)
        self._count = 0
        self.version = 0  # grows whenever an id changes its representative or is pinned
        self._leafy: npt.NDArray[np.bool_] = np.zeros(1024, np.bool_)
        self._node_of: dict[bytes, int] = {}
        self._nodes: list[int] = []
        self._members: list[Ids] = []  # of each node
        self._flat: Ids = np.zeros(0, np.int64)  # all members, node after node
        self._owner: Ids = np.zeros(0, np.int64)  # whose members they are
        self._settled: Ids = np.zeros(0, np.int64)  # their representatives when last settled

    def __len__(self) -> int:
        return self._count

    def new(self, count: int, *, leaf: bool = True) -> int:
        """Allocate `count` ids, each a class of its own; returns the first."""
        first = self._count
        self._count += count
        if self._count >= len(self._parent):
            size = 2 * self._count
            parent = np.full(size, NONE, np.int64)
            parent[:first] = self._parent[:first]
            reason = np.zeros(size, np.int32)
            reason[:first] = self._reason[:first]
            leafy = np.zeros(size, np.bool_)
            leafy[:first] = self._leafy[:first]
            self._parent, self._reason, self._leafy = parent, reason, leafy
        self._leafy[first : self._count] = leaf
        self._parent[first : self._count] = np.arange(first, self._count)
        return first

    def find(self, ids: Ids) -> Ids:
        """The representative (smallest id) of each id; NONE stays NONE."""
        found = self._parent[ids]
        above = self._parent[found]
        if (above == found).all():  # nearly always: paths are kept short
            return found
        while not (above == found).all():
            found, above = above, self._parent[above]
        self._parent[ids] = found
        return found

    def unify(self, a: Ids, b: Ids, reason: int) -> None:
        """Unite a[i] with b[i] for all i; an id that meets NONE is pinned for `reason`."""
        a, b = self.find(a.ravel()), self.find(b.ravel())
        lone = (a == NONE) != (b == NONE)
        if lone.any():
            self.pin(np.maximum(a, b)[lone], reason)
        apart = (a != b) & ~lone
        a, b = a[apart], b[apart]
        if not a.size:
            return
        self.version += 1
        touched = np.concatenate([a, b])
        while a.size:
            # Hook every root under the smallest it meets; parents only ever decrease, so no cycle.
            np.minimum.at(self._parent, np.maximum(a, b), np.minimum(a, b))
            a, b = self.find(a), self.find(b)
            apart = a != b
            a, b = a[apart], b[apart]
        roots = self.find(touched)
        np.maximum.at(self._reason, roots, self._reason[touched])
        np.logical_or.at(self._leafy, roots, self._leafy[touched])

    def pin(self, ids: Ids, reason: int) -> None:
        """Ids that may never die. The first reason is kept."""
        roots = self.find(ids.ravel())
        roots = roots[roots != NONE]
        free = roots[self._reason[roots] == FREE]
        if free.size:
            self.version += 1
            self._reason[free] = reason

    def reason(self, ids: Ids) -> npt.NDArray[np.int32]:
        """Why each id is pinned; FREE where it is not (NONE counts as free: nobody pinned it)."""
        # The slot of NONE, the last one, is never given a reason.
        reasons: npt.NDArray[np.int32] = self._reason[self.find(ids)]
        return reasons

    def immortal(self, ids: Ids) -> npt.NDArray[np.bool_]:
        """bool: which ids never die, being pinned or NONE."""
        immortal: npt.NDArray[np.bool_] = (ids == NONE) | (self.reason(ids) != FREE)
        return immortal

    def all_of(self, rows: Ids) -> Ids:
        """For each row of ids (n, m) the id of "all of the row are dead": (n,)."""
        rows = self.find(rows)
        if rows.shape[1] == 1:
            return rows[:, 0]
        rows = np.sort(rows, axis=1)
        result = rows[:, 0].copy()  # a row with a NONE has it first, and never dies
        mixed = rows[:, 0] != rows[:, -1]
        pinned = mixed & (self.reason(rows) != FREE).any(1)
        for i in np.flatnonzero(pinned):  # never dies, for the reason of one of its members
            result[i] = rows[i][self.reason(rows[i]) != FREE][0]
        for i in np.flatnonzero(mixed & ~pinned & (rows[:, 0] != NONE)):
            result[i] = self._node(np.unique(rows[i]))
        return result

    def _node(self, members: Ids) -> int:
        key = members.tobytes()
        if key not in self._node_of:
            node = self._node_of[key] = self.new(1, leaf=False)
            self._nodes.append(node)
            self._members.append(members)
        return int(self.find(np.array([self._node_of[key]]))[0])

    def has_leaf(self, ids: Ids) -> npt.NDArray[np.bool_]:
        """bool: whose class holds more than AND nodes."""
        found: npt.NDArray[np.bool_] = self._leafy[self.find(ids)]
        return found

    def settle(self, reason: int) -> None:
        """Unite AND nodes whose members have become one class, or the members of another node.

        Only nodes of which a member has a new representative are looked at again. A node of which a
        member is pinned never dies either.
        """
        while (changed := self._changed()).size or self._pin_nodes():
            for i in changed:
                node, roots = self._nodes[i], np.unique(self.find(self._members[i]))
                key = roots.tobytes()
                same = int(roots[0]) if len(roots) == 1 else self._node_of.setdefault(key, node)
                if same != node:
                    self.unify(np.array([same]), np.array([node]), reason)

    def _pin_nodes(self) -> bool:
        """Pin the nodes that have a pinned member; whether there was one."""
        roots = self.find(np.array(self._nodes, np.int64))
        reasons = np.zeros(len(roots), np.int32)
        np.maximum.at(reasons, self._owner, self._reason[self._settled])
        fresh = (reasons != FREE) & (self._reason[roots] == FREE)
        self._reason[roots[fresh]] = reasons[fresh]
        self.version += int(fresh.any())
        return bool(fresh.any())

    def _changed(self) -> Ids:
        """Positions of the nodes with a member whose representative is not what it was."""
        if sum(map(len, self._members)) > len(self._flat):
            self._flat = np.concatenate(self._members)
        roots = self.find(self._flat)
        known = len(self._settled)
        fresh = np.ones(len(roots), np.bool_)
        fresh[:known] = roots[:known] != self._settled
        self._settled = roots
        lengths = [len(m) for m in self._members]
        self._owner = np.repeat(np.arange(len(lengths)), lengths)
        return np.unique(self._owner[fresh])

    def copy(self) -> Classes:
        """An independent copy: what is united or pinned in one is not in the other."""
        twin = Classes()
        twin._parent, twin._reason = self._parent.copy(), self._reason.copy()
        twin._leafy, twin._count = self._leafy.copy(), self._count
        twin._node_of, twin._nodes = dict(self._node_of), list(self._nodes)
        twin._members = list(self._members)
        return twin

    def undecided(self) -> Iterable[tuple[int, Ids]]:
        """AND nodes that still have several members: (node, representatives of its members)."""
        for node, members in zip(self._nodes, self._members, strict=True):
            roots = np.unique(self.find(members))
            if len(roots) > 1:
                yield node, roots

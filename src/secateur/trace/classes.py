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
        self._node_of: dict[bytes, int] = {}
        self._members: dict[int, Ids] = {}

    def __len__(self) -> int:
        return self._count

    def new(self, count: int) -> int:
        """Allocate `count` ids, each a class of its own; returns the first."""
        first = self._count
        self._count += count
        if self._count >= len(self._parent):
            size = 2 * self._count
            parent = np.full(size, NONE, np.int64)
            parent[:first] = self._parent[:first]
            reason = np.zeros(size, np.int32)
            reason[:first] = self._reason[:first]
            self._parent, self._reason = parent, reason
        self._parent[first : self._count] = np.arange(first, self._count)
        return first

    def find(self, ids: Ids) -> Ids:
        """The representative (smallest id) of each id; NONE stays NONE."""
        found = self._parent[ids]
        while True:
            above = self._parent[found]
            if np.array_equal(above, found):
                break
            found = above
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
        np.maximum.at(self._reason, self.find(touched), self._reason[touched])

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
            self._node_of[key] = self.new(1)
            self._members[self._node_of[key]] = members
        return int(self.find(np.array([self._node_of[key]]))[0])

    def has_leaf(self, ids: Ids) -> npt.NDArray[np.bool_]:
        """bool: whose class holds more than AND nodes."""
        leaves = np.ones(self._count, np.bool_)
        leaves[list(self._members)] = False
        owners = np.zeros(self._count + 1, np.bool_)
        owners[self.find(np.flatnonzero(leaves))] = True
        found: npt.NDArray[np.bool_] = owners[self.find(ids)]
        return found

    def settle(self, reason: int) -> None:
        """Unite AND nodes whose members have become one class, or the members of another node."""
        changed = True
        while changed:
            changed = False
            node_of: dict[bytes, int] = {}
            for node, members in self._members.items():
                roots = np.unique(self.find(members))
                same = (
                    int(roots[0]) if len(roots) == 1 else node_of.setdefault(roots.tobytes(), node)
                )
                pair = self.find(np.array([same, node]))
                if pair[0] != pair[1]:
                    self.unify(pair[:1], pair[1:], reason)
                    changed = True
            self._node_of = node_of

    def copy(self) -> Classes:
        """An independent copy: what is united or pinned in one is not in the other."""
        twin = Classes()
        twin._parent, twin._reason = self._parent.copy(), self._reason.copy()
        twin._count = self._count
        twin._node_of, twin._members = dict(self._node_of), dict(self._members)
        return twin

    def undecided(self) -> Iterable[tuple[int, Ids]]:
        """AND nodes that still have several members: (node, representatives of its members)."""
        for node, members in self._members.items():
            roots = np.unique(self.find(members))
            if len(roots) > 1:
                yield node, roots

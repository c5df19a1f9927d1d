from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.trace.classes import FREE, NONE, Classes, Ids

SETTLE = 99


class Slow:
    """The same in sets: classes are sets of elements, nodes a list of (element, members)."""

    def __init__(self) -> None:
        self.sets: list[set[int]] = []
        self.leaves: set[int] = set()
        self.pins: set[int] = set()
        self.nodes: list[tuple[int, frozenset[int]]] = []

    def new(self, *, leaf: bool) -> int:
        element = sum(map(len, self.sets))
        self.sets.append({element})
        if leaf:
            self.leaves.add(element)
        return element

    def of(self, element: int) -> set[int]:
        return next(s for s in self.sets if element in s)

    def immortal(self, element: int) -> bool:
        return element == NONE or bool(self.of(element) & self.pins)

    def unify(self, a: int, b: int) -> bool:
        if NONE in (a, b):
            return a != b and self.pin(max(a, b))
        left, right = self.of(a), self.of(b)
        if left is right:
            return False
        self.sets.remove(right)
        left |= right
        return True

    def pin(self, element: int) -> bool:
        fresh = not self.immortal(element)
        self.pins.add(element)
        return fresh

    def all_of(self, row: list[int]) -> int:
        """Dead when all of the row is: one of the row that never dies, its only class, or a node."""
        for element in row:
            if self.immortal(element):
                return element
        members = frozenset(min(self.of(element)) for element in row)
        if len(members) == 1:
            return row[0]
        node = self.new(leaf=False)
        self.nodes.append((node, members))
        return node

    def settle(self) -> None:
        """Until nothing changes: equal nodes are one, a node of one class is that class."""
        changed = True
        while changed:
            changed = False
            for node, members in self.nodes:
                if any(self.immortal(m) for m in members) and self.pin(node):
                    changed = True
                if len({min(self.of(m)) for m in members}) == 1:
                    changed |= self.unify(node, next(iter(members)))
            for (a, left), (b, right) in itertools.combinations(self.nodes, 2):
                if {min(self.of(m)) for m in left} == {min(self.of(m)) for m in right}:
                    changed |= self.unify(a, b)


class Pair:
    """Both at work on the same things; `known[i]` is (id, element of the twin)."""

    def __init__(self, leaves: int) -> None:
        self.fast, self.slow = Classes(), Slow()
        first = self.fast.new(leaves)
        self.known = [(first + i, self.slow.new(leaf=True)) for i in range(leaves)]
        self.known.append((NONE, NONE))

    def ids(self, handles: list[int]) -> Ids:
        return np.array([self.known[h % len(self.known)][0] for h in handles], np.int64)

    def elements(self, handles: list[int]) -> list[int]:
        return [self.known[h % len(self.known)][1] for h in handles]

    def step(self, name: str, left: list[int], right: list[int]) -> None:
        if name == "unify":
            self.fast.unify(self.ids(left), self.ids(right), 1)
            for a, b in zip(self.elements(left), self.elements(right), strict=True):
                self.slow.unify(a, b)
        elif name == "pin":
            self.fast.pin(self.ids(left[:1]), 2)
            self.slow.pin(self.elements(left[:1])[0])
        elif name == "all_of":
            rows = np.stack([self.ids(left), self.ids(right)])
            made = self.fast.all_of(rows).tolist()
            twins = [self.slow.all_of(self.elements(row)) for row in (left, right)]
            self.known += list(zip(made, twins, strict=True))
        else:
            self.fast.settle(SETTLE)
            self.slow.settle()

    def agree(self) -> None:
        """After settling: the same are immortal, the same are one class, the same hold leaves."""
        self.step("settle", [], [])
        ids = np.array([i for i, _ in self.known], np.int64)
        roots = self.fast.find(ids)
        immortal = self.fast.immortal(ids)
        assert immortal.tolist() == [self.slow.immortal(e) for _, e in self.known]
        mortal = np.flatnonzero(~immortal)
        leafy = self.fast.has_leaf(ids)
        for i in mortal:
            own = self.slow.of(self.known[i][1])
            assert bool(leafy[i]) == bool(own & self.slow.leaves)
            for j in mortal:
                assert (roots[i] == roots[j]) == (self.known[j][1] in own)


HANDLES = st.integers(0, 30)
STEPS = st.tuples(
    st.sampled_from(["unify", "unify", "pin", "all_of", "all_of", "settle"]),
    st.integers(1, 4).flatmap(
        lambda n: st.tuples(*[st.lists(HANDLES, min_size=n, max_size=n)] * 2)
    ),
)


def drop_pins_of_none(pair: Pair, name: str, left: list[int]) -> bool:
    return name == "pin" and pair.elements(left[:1])[0] == NONE


def run(pair: Pair, steps: list[tuple[str, tuple[list[int], list[int]]]]) -> None:
    for name, (left, right) in steps:
        if not drop_pins_of_none(pair, name, left):
            pair.step(name, left, right)


@given(st.integers(2, 9), st.lists(STEPS, max_size=12))
def test_agrees_with_sets(leaves: int, steps: list) -> None:  # type: ignore[type-arg]
    pair = Pair(leaves)
    run(pair, steps)
    pair.agree()


@settings(max_examples=50)
@given(st.integers(2, 6), st.lists(STEPS, max_size=8), st.lists(STEPS, max_size=8))
def test_a_copy_goes_its_own_way(leaves: int, before: list, after: list) -> None:  # type: ignore[type-arg]
    pair = Pair(leaves)
    run(pair, before)
    ids = np.arange(len(pair.fast))
    was = pair.fast.find(ids).tolist(), pair.fast.reason(ids).tolist(), len(pair.fast)
    left = pair.fast
    pair.fast = left.copy()
    run(pair, after)
    pair.agree()

    assert (left.find(ids).tolist(), left.reason(ids).tolist(), len(left)) == was


@given(st.lists(st.integers(-1, 11), min_size=1, max_size=8))
def test_the_representative_is_the_smallest(chain: list[int]) -> None:
    classes = Classes()
    classes.new(12)
    ids = np.array(chain)
    classes.unify(ids[:-1], ids[1:], 1)
    mortal = ids[ids != NONE]
    if NONE not in chain:
        assert set(classes.find(ids).tolist()) == {int(ids.min())}
    assert (classes.find(mortal) <= mortal).all()
    assert (classes.find(np.array([NONE])) == NONE).all()


def test_room_is_made_for_any_number() -> None:
    classes = Classes()
    first, second = classes.new(1500), classes.new(5000, leaf=False)

    assert (first, second, len(classes)) == (0, 1500, 6500)

    classes.unify(np.array([0, NONE]), np.array([6499, 7]), 3)

    assert classes.find(np.array([6499])).tolist() == [0]
    assert classes.reason(np.array([7, 0, NONE])).tolist() == [3, FREE, FREE]
    assert classes.has_leaf(np.array([6499, 6498, NONE])).tolist() == [True, False, False]


def test_the_first_reason_is_kept() -> None:
    classes = Classes()
    classes.new(4)
    classes.pin(np.array([1]), 5)
    classes.pin(np.array([1, 2]), 7)

    assert classes.reason(np.array([0, 1, 2])).tolist() == [FREE, 5, 7]


def test_what_is_united_with_what_is_pinned_is_pinned() -> None:
    classes = Classes()
    classes.new(4)
    classes.pin(np.array([3]), 5)
    classes.unify(np.array([0, 1]), np.array([1, 3]), 6)

    assert classes.reason(np.arange(4)).tolist() == [5, 5, FREE, 5]


def test_two_unpinned_that_meet_nothing_stay_free() -> None:
    classes = Classes()
    classes.new(2)
    classes.unify(np.array([NONE, 0]), np.array([NONE, 1]), 4)

    assert not classes.immortal(np.array([0, 1])).any()


@pytest.mark.parametrize("change", ["unify", "pin", "none"])
def test_the_version_grows_when_something_changes(change: str) -> None:
    classes = Classes()
    classes.new(4)
    before = classes.version
    if change == "unify":
        classes.unify(np.array([0]), np.array([2]), 1)
    elif change == "pin":
        classes.pin(np.array([2]), 1)
    else:
        classes.unify(np.array([2]), np.array([2]), 1)

    assert (classes.version > before) == (change != "none")


def test_the_order_and_repetitions_in_a_row_do_not_matter() -> None:
    classes = Classes()
    classes.new(6)
    nodes = classes.all_of(np.array([[0, 3, 5, 5], [5, 0, 3, 0], [1, 1, 1, 1]]))

    assert nodes[0] == nodes[1]
    assert nodes[2] == 1
    assert nodes[0] >= 6


def test_a_row_with_something_immortal_is_immortal() -> None:
    classes = Classes()
    classes.new(4)
    classes.pin(np.array([2]), 5)
    nodes = classes.all_of(np.array([[0, 2], [1, NONE], [2, NONE], [0, 1]]))

    assert classes.immortal(nodes).tolist() == [True, True, True, False]
    assert classes.reason(nodes[:1]).tolist() == [5]


def test_undecided_nodes_are_those_with_several_classes() -> None:
    classes = Classes()
    classes.new(5)
    whole, part = classes.all_of(np.array([[0, 1], [2, 3]])).tolist()
    classes.unify(np.array([0]), np.array([1]), 1)
    classes.settle(SETTLE)

    assert [(node, members.tolist()) for node, members in classes.undecided()] == [(part, [2, 3])]
    assert classes.find(np.array([whole])).tolist() == [0]


def test_settling_goes_on_until_nothing_changes() -> None:
    """Nodes of nodes, and a pin that climbs through them."""
    classes = Classes()
    classes.new(4)
    inner = classes.all_of(np.array([[0, 1]]))[0]
    outer = classes.all_of(np.array([[inner, 2]]))[0]
    top = classes.all_of(np.array([[outer, 3]]))[0]
    classes.settle(SETTLE)

    assert not classes.immortal(np.array([top])).any()

    classes.pin(np.array([1]), 8)
    classes.settle(SETTLE)

    assert classes.reason(np.array([inner, outer, top])).tolist() == [8, 8, 8]
    assert not classes.immortal(np.array([0, 2, 3])).any()

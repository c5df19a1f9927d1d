from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.trace.classes import NONE
from secateur.trace.records import Block, Reason
from secateur.trace.tape import Tape
from secateur.trace.units import Units, find_units

WHY = Reason("test", "", "for the test")


def tape_of(*blocks: tuple[str, int, bool]) -> tuple[Tape, list[np.ndarray]]:  # type: ignore[type-arg]
    """Blocks (name, size, whether the parameter writes its channels) with fresh ids."""
    tape, ids = Tape([]), []
    for name, size, writes in blocks:
        start = tape.classes.new(size)
        tape.blocks.append(Block(name, 0, start, size))
        ids.append(np.arange(start, start + size))
        if writes:
            tape.writes.add((name, 0))
    return tape, ids


def unite(tape: Tape, a: np.ndarray, b: np.ndarray) -> None:  # type: ignore[type-arg]
    tape.classes.unify(a, b, tape.number(WHY))


def placed(tape: Tape, units: Units, ids: np.ndarray) -> list[tuple[int, int]]:  # type: ignore[type-arg]
    """(group, unit) of each id."""
    found = tape.classes.find(ids)
    return list(zip(units.group_of[found].tolist(), units.unit_of[found].tolist(), strict=True))


def names(units: Units) -> list[str]:
    return [block.name for block in units.lead]


def test_a_parameter_is_a_group_in_its_own_order() -> None:
    tape, (a, b) = tape_of(("a", 3, True), ("b", 2, True))
    units = find_units(tape)

    assert (names(units), units.sizes) == (["a", "b"], [3, 2])
    assert placed(tape, units, a) == [(0, 0), (0, 1), (0, 2)]
    assert placed(tape, units, b) == [(1, 0), (1, 1)]


def test_layers_that_write_the_same_channels_are_one_group() -> None:
    """A residual sum: the group is called after the layer that came first."""
    tape, (a, b) = tape_of(("a", 3, True), ("b", 3, True))
    unite(tape, b[::-1], a)
    units = find_units(tape)

    assert (names(units), units.sizes) == (["a"], [3])
    assert placed(tape, units, b) == [(0, 2), (0, 1), (0, 0)]


def test_a_concatenation_stays_in_two_groups_for_its_reader() -> None:
    tape, (a, b, reader) = tape_of(("a", 2, True), ("b", 3, True), ("reader", 5, False))
    unite(tape, reader, np.concatenate([a, b]))
    units = find_units(tape)

    assert names(units) == ["a", "b"]
    assert placed(tape, units, reader) == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]


def test_a_writer_of_a_concatenation_makes_one_group() -> None:
    """A dense layer that writes all channels of two others: they compete with each other."""
    tape, (a, b, c) = tape_of(("a", 2, True), ("b", 3, True), ("c", 5, True))
    unite(tape, c, np.concatenate([a, b]))
    units = find_units(tape)

    assert (names(units), units.sizes) == (["a"], [5])
    assert placed(tape, units, b) == [(0, 2), (0, 3), (0, 4)]


def test_what_nothing_writes_is_placed_by_what_reads_it() -> None:
    tape, (_gain,) = tape_of(("gain", 3, False))
    units = find_units(tape)

    assert (names(units), units.sizes) == (["gain"], [3])


def test_pinned_channels_are_no_units_and_do_not_count() -> None:
    tape, (a,) = tape_of(("a", 5, True))
    tape.classes.pin(a[1:2], tape.number(WHY))
    units = find_units(tape)

    assert units.sizes == [4]
    assert placed(tape, units, a) == [(0, 0), (NONE, NONE), (0, 1), (0, 2), (0, 3)]


def test_a_unit_alone_in_its_group_cannot_leave() -> None:
    tape, (a, _b) = tape_of(("a", 3, True), ("b", 2, True))
    unite(tape, a[:2], a[1:])
    units = find_units(tape)

    assert (names(units), units.sizes) == (["b"], [2])
    assert units.single.tolist() == [int(a[0])]
    assert placed(tape, units, a) == [(NONE, NONE)] * 3


def test_tensors_that_are_no_parameters_place_nothing() -> None:
    tape, (made, a) = tape_of(("", 3, False), ("a", 3, True))
    unite(tape, made, a)
    units = find_units(tape)

    assert (names(units), units.sizes) == (["a"], [3])
    assert placed(tape, units, made) == placed(tape, units, a)


def test_nothing_at_all() -> None:
    units = find_units(Tape([]))

    assert (units.lead, units.sizes, units.single.tolist()) == ([], [], [])


@settings(max_examples=100)
@given(st.data())
def test_every_free_class_is_one_unit_of_one_group(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 4))
    specs = [
        (f"w{i}", data.draw(st.integers(1, 4)), data.draw(st.booleans())) for i in range(count)
    ]
    tape, ids = tape_of(*specs)
    everything = np.concatenate(ids)
    for _ in range(data.draw(st.integers(0, 5))):
        a, b = (data.draw(st.sampled_from(everything.tolist())) for _ in range(2))
        unite(tape, np.array([a]), np.array([b]))
    for pinned in data.draw(st.lists(st.sampled_from(everything.tolist()), max_size=2)):
        tape.classes.pin(np.array([pinned]), tape.number(WHY))
    units = find_units(tape)
    roots = np.unique(tape.classes.find(everything))
    free = roots[~tape.classes.immortal(roots)]
    in_groups = free[units.group_of[free] != NONE]

    assert sorted([*in_groups.tolist(), *units.single.tolist()]) == sorted(free.tolist())
    assert (units.group_of[roots[tape.classes.immortal(roots)]] == NONE).all()
    for group, size in enumerate(units.sizes):
        own = in_groups[units.group_of[in_groups] == group]

        assert size > 1
        assert sorted(units.unit_of[own].tolist()) == list(range(size))
        # Slow twin: classes are linked when a block places both.
        reached, frontier = {int(own[0])}, {int(own[0])}
        while frontier:
            blocks = [b for b in range(count) if places(tape, specs, ids, b) & frontier]
            linked = set().union(*(places(tape, specs, ids, b) for b in blocks))
            frontier = (linked & set(free.tolist())) - reached
            reached |= frontier
        assert reached == set(own.tolist())


def places(tape: Tape, specs: list, ids: list, block: int) -> set[int]:  # type: ignore[type-arg]
    """The classes that a block has a say in: those it writes, or that nothing writes."""
    of = [set(tape.classes.find(i).tolist()) for i in ids]
    written = set().union(*(of[b] for b, spec in enumerate(specs) if spec[2]))
    return of[block] if specs[block][2] else of[block] - written

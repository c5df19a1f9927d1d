from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from secateur.trace.classes import NONE
from secateur.trace.field import Field
from secateur.trace.meet import combine, meet
from secateur.trace.records import Reason
from secateur.trace.tape import Tape

WHY = Reason("test", "here", "for the test")
Operand = tuple[Tensor, list[Field]]


def along(tape: Tape, shape: Sequence[int], *dims: int, zero: bool = True) -> Field:
    """A field with an id of its own for every place along some dims."""
    sizes = [size if d in dims else 1 for d, size in enumerate(shape)]
    count = int(torch.Size(sizes).numel())
    return Field((torch.arange(count) + tape.classes.new(count)).reshape(sizes), zero)


def roots(tape: Tape, field: Field) -> list[int]:
    return tape.classes.find(field.ids.numpy().ravel()).tolist()


def pinned(tape: Tape, field: Field) -> bool:
    return bool(tape.classes.immortal(field.ids.numpy().ravel()).all())


def tensor(*shape: int) -> Tensor:
    return torch.empty(shape)


@settings(max_examples=80)
@given(st.lists(st.integers(2, 3), min_size=1, max_size=3), st.data())
def test_equal_places_are_united_and_no_others(shape: list[int], data: st.DataObject) -> None:
    """Operands of any broadcast, each labelled along all the dims that it has."""
    tape = Tape([])
    operands: list[Operand] = []
    for _ in range(data.draw(st.integers(2, 3))):
        own = [size if data.draw(st.booleans()) else 1 for size in shape]
        lead = data.draw(st.integers(0, len(shape) - 1))
        own = own[lead:]
        fields = [along(tape, own, d) for d, size in enumerate(own) if size > 1]
        operands.append((tensor(*own), fields))
    whole = [1] * len(shape)
    for t, _ in operands:
        whole = list(torch.broadcast_shapes(whole, t.shape))
    placed = meet(tape, whole, operands, WHY)
    for d, size in enumerate(whole):
        columns = [roots(tape, f) for fields in placed for f in fields if f.dims == (d,)]
        assert all(column == columns[0] for column in columns)
        assert all(len(set(column)) == size for column in columns)
    kept = combine(tape, placed)

    assert [f.dims for f, _ in kept] == [
        f.dims for f, _ in sorted(kept, key=lambda k: next(
            i for i, fields in enumerate(placed) for g in fields if g.dims == k[0].dims))
    ]  # fmt: skip
    assert sorted(f.dims for f, _ in kept) == [(d,) for d, size in enumerate(whole) if size > 1]
    for f, zeros in kept:
        assert zeros == [any(g.dims == f.dims for g in fields) for fields in placed]


def test_a_finer_field_says_what_a_coarser_one_would() -> None:
    """A matrix of ids meets a vector: each of its rows is "all of the row"."""
    tape = Tape([])
    fine, coarse = along(tape, (2, 3), 0, 1), along(tape, (2, 1), 0)
    placed = meet(tape, (2, 3), [(tensor(2, 3), [fine]), (tensor(2, 1), [coarse])], WHY)
    nodes = tape.classes.all_of(fine.ids.numpy()).tolist()

    assert roots(tape, coarse) == nodes
    assert len(set(roots(tape, fine))) == 6
    ((kept, zeros),) = combine(tape, placed)
    assert torch.equal(kept.ids, fine.ids)
    assert zeros == [True, False]


def test_a_dim_without_labels_holds_those_of_others() -> None:
    tape = Tape([])
    field = along(tape, (2, 3), 1)
    meet(tape, (2, 3), [(tensor(2, 3), [field]), (tensor(2, 3), [])], WHY)

    assert pinned(tape, field)
    assert tape.reasons[int(tape.classes.reason(field.ids.numpy().ravel())[0])] == WHY


def test_a_dim_of_size_one_holds_nothing() -> None:
    tape = Tape([])
    field = along(tape, (2, 3), 1)
    placed = meet(tape, (2, 3), [(tensor(2, 3), [field]), (tensor(2, 1), []), (tensor(), [])], WHY)

    assert not tape.classes.immortal(field.ids.numpy().ravel()).any()
    assert [zeros for _, zeros in combine(tape, placed)] == [[True, False, False]]


def test_fields_of_one_operand_are_never_united() -> None:
    """Heads and widths, viewed as one dim, meet what has none of them."""
    tape = Tape([])
    shape = (6,)
    a, b = along(tape, (2, 3), 0), along(tape, (2, 3), 1)
    merged = [Field(f.ids.expand(2, 3).reshape(6), zero=True) for f in (a, b)]
    meet(tape, shape, [(tensor(6), merged), (tensor(1), [])], WHY)

    assert len({*roots(tape, a), *roots(tape, b)}) == 5


def test_several_fields_on_the_same_dims_are_paired_by_pattern() -> None:
    """(heads, widths) viewed as one dim, on both sides: heads meet heads."""
    tape = Tape([])
    sides = []
    for _ in range(2):
        a, b = along(tape, (2, 3), 0), along(tape, (2, 3), 1)
        sides.append((a, b, [Field(f.ids.expand(2, 3).reshape(6), zero=True) for f in (a, b)]))
    (a, b, left), (c, d, right) = sides
    meet(tape, (6,), [(tensor(6), left), (tensor(6), right[::-1])], WHY)

    assert roots(tape, a) == roots(tape, c)
    assert roots(tape, b) == roots(tape, d)
    assert len({*roots(tape, a), *roots(tape, b)}) == 5
    assert not tape.classes.immortal(a.ids.numpy().ravel()).any()


def test_what_has_no_counterpart_meets_all() -> None:
    tape = Tape([])
    a, b = along(tape, (2, 3), 0), along(tape, (2, 3), 1)
    merged = [Field(f.ids.expand(2, 3).reshape(6), zero=True) for f in (a, b)]
    single = along(tape, (6,), 0)
    meet(tape, (6,), [(tensor(6), merged), (tensor(6), [single])], WHY)

    assert len({*roots(tape, a), *roots(tape, b), *roots(tape, single)}) == 1


def test_indices_that_never_die_are_all_alike() -> None:
    """Padding meets a gain: where nothing can leave, it does not matter what is there."""
    tape = Tape([])
    padded, gain = along(tape, (4,), 0, zero=False), along(tape, (4,), 0)
    padded.ids[0] = NONE
    placed = meet(tape, (4,), [(tensor(4), [padded]), (tensor(4), [gain])], WHY)
    ((_, zeros),) = combine(tape, placed)

    assert zeros == [False, True]
    assert tape.classes.immortal(gain.ids.numpy()).tolist() == [True, False, False, False]


def test_leaves_are_gathered_and_flags_kept_apart() -> None:
    tape = Tape([])
    fields = [
        Field(along(tape, (3,), 0).ids, zero, frozenset({(name, 0)}))
        for name, zero in (("a", True), ("b", False), ("c", True))
    ]
    placed = meet(tape, (3,), [(tensor(3), [f]) for f in fields], WHY)
    ((field, zeros),) = combine(tape, placed)

    assert field.leaves == {("a", 0), ("b", 0), ("c", 0)}
    assert zeros == [True, False, True]


def test_what_cannot_leave_any_more_is_dropped() -> None:
    tape = Tape([])
    a, b = along(tape, (2, 3), 0), along(tape, (2, 3), 1)
    tape.classes.pin(a.ids.numpy().ravel(), tape.number(WHY))
    kept = combine(tape, [[a, b]])

    assert [f.dims for f, _ in kept] == [(1,)]


def test_order_does_not_matter() -> None:
    """The same classes whichever operand comes first."""
    shapes = [(2, 3), (1, 3), (2, 1)]
    partitions = set()
    for order in itertools.permutations(range(3)):
        tape = Tape([])
        operands = {
            i: (tensor(*s), [along(tape, s, d) for d in range(2) if s[d] > 1])
            for i, s in enumerate(shapes)
        }
        meet(tape, (2, 3), [operands[i] for i in order], WHY)
        ids = [r for i in range(3) for f in operands[i][1] for r in roots(tape, f)]
        partitions.add(tuple(ids.index(r) for r in ids))

    assert len(partitions) == 1

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch
from torch import Tensor

from secateur.trace.field import Field, Labels
from secateur.trace.records import Block, Reason
from secateur.trace.tape import Tape
from secateur.types.equation import Attribute, Constant, Count

WHY = Reason("test", "here", "for the test")


@pytest.fixture
def weight() -> Tensor:
    return torch.randn(3, 1, 4)


@pytest.fixture
def tape(weight: Tensor) -> Tape:
    return Tape([("w", weight), ("index", torch.arange(3))])


def roots(tape: Tape, ids: Tensor) -> list[int]:
    return tape.classes.find(ids.numpy().ravel()).tolist()


def test_a_parameter_has_an_id_for_every_index_of_every_dim(tape: Tape, weight: Tensor) -> None:
    labels = tape.labels(weight)

    assert [f.dims for f in labels.fields] == [(0,), (2,)]
    assert tape.blocks == [Block("w", 0, 0, 3), Block("w", 2, 3, 4)]
    assert [f.leaves for f in labels.fields] == [{("w", 0)}, {("w", 2)}]
    assert all(f.zero for f in labels.fields)
    assert labels.constant
    assert labels.origin == "w"
    assert tape.labels(weight) is labels


def test_ints_have_none_and_strangers_neither(tape: Tape) -> None:
    index = torch.arange(3)
    tape = Tape([("index", index)])

    assert tape.labels(index).fields == []
    assert tape.labels(index).constant
    assert tape.labels(torch.zeros(3)) == Labels()
    assert tape.blocks == []


def test_a_tensor_of_the_user_gets_no_attribute(tape: Tape, weight: Tensor) -> None:
    tape.labels(weight)
    tape.alias(weight[0], weight)
    tape.put(weight, [])

    assert not vars(weight)


def test_labels_follow_what_is_united_later(tape: Tape, weight: Tensor) -> None:
    out = torch.randn(3)
    tape.put(out, [Field(tape.labels(weight).fields[0].ids.reshape(3), zero=True)])
    tape.unify(np.array([0]), np.array([2]), WHY)

    assert tape.labels(out).fields[0].ids.tolist() == [0, 1, 0]


def test_what_is_pinned_is_dropped(tape: Tape, weight: Tensor) -> None:
    tape.pin(tape.labels(weight).fields, [0], WHY)

    assert [f.dims for f in tape.labels(weight).fields] == [(2,)]
    assert tape.reasons[int(tape.classes.reason(np.array([1]))[0])] == WHY


def test_nothing_has_no_labels(tape: Tape, weight: Tensor) -> None:
    empty = torch.randn(0, 1, 4)
    tape.put(empty, tape.labels(weight).fields[1:])

    assert tape.labels(empty).fields == []


def test_pins_of_a_range_and_of_all(tape: Tape, weight: Tensor) -> None:
    tape.pin_range(tape.labels(weight).fields, 2, 1, 3, WHY)

    assert tape.classes.immortal(np.arange(7)).tolist() == [False] * 4 + [True, True, False]

    tape.pin(tape.labels(weight).fields, None, WHY)

    assert tape.classes.immortal(np.arange(7)).all()


def test_all_there_is_of_a_tensor_cannot_leave(tape: Tape, weight: Tensor) -> None:
    """Once all its elements are one channel, the tensor would be empty without it."""
    tape.labels(weight)
    tape.unify(np.array([0, 1]), np.array([1, 2]), WHY)

    assert [f.dims for f in tape.labels(weight).fields] == [(2,)]
    assert (
        tape.reasons[int(tape.classes.reason(np.array([0]))[0])].why
        == "is all there is of a tensor"
    )


def grid(tape: Tape, *shape: int, zero: bool = True) -> Field:
    count = int(torch.Size(shape).numel())
    return Field((torch.arange(count) + tape.classes.new(count)).reshape(shape), zero)


def test_rows_and_projections() -> None:
    tape = Tape([])
    field = grid(tape, 2, 3)
    nodes = tape.classes.all_of(field.ids.numpy())

    assert tape.row(field, [0]).tolist() == nodes.tolist()
    assert tape.row(field, [0, 1]).tolist() == field.ids.flatten().tolist()
    assert tape.onto(field, [0]).ids.tolist() == nodes.reshape(2, 1).tolist()
    assert [f.ids.shape for f in tape.apart_from([field], [1])] == [(2, 1)]
    assert tape.apart_from([field], [0, 1]) == []
    (same,) = tape.apart_from([tape.onto(field, [0])], [1])
    assert same.dims == (0,)


def test_fields_on_the_same_dims_get_a_grid_of_their_own() -> None:
    tape = Tape([])
    heads, widths = grid(tape, 2, 1), grid(tape, 1, 3)
    merged = [Field(f.ids.expand(2, 3).reshape(6), zero=True) for f in (heads, widths)]
    (field,) = tape.apart([*merged])

    assert len(set(roots(tape, field.ids))) == 6
    cells = field.ids.reshape(2, 3).numpy()
    assert tape.classes.all_of(cells).tolist() == roots(tape, heads.ids)
    assert tape.classes.all_of(np.ascontiguousarray(cells.T)).tolist() == roots(tape, widths.ids)
    assert any(r.shape == (2, 3) for r in tape.rectangles)
    assert tape.apart([heads, widths]) == [heads, widths]


def test_what_spans_no_grid_stays() -> None:
    tape = Tape([])
    one = Field(torch.tensor([0, 0, 1]) + tape.classes.new(2), zero=True)
    other = Field(torch.tensor([0, 1, 0]) + tape.classes.new(2), zero=True)
    tape.apart([one, other])

    assert tape.classes.immortal(np.arange(4)).all()


def test_one_speaks_where_the_other_is_silent() -> None:
    tape = Tape([])
    ids = tape.classes.new(4)
    one = Field(torch.tensor([ids, ids + 1, -1, -1]), zero=True)
    other = Field(torch.tensor([-1, -1, ids + 2, ids + 3]), zero=False)
    (field,) = tape.apart([one, other])

    assert field.ids.tolist() == [ids, ids + 1, ids + 2, ids + 3]
    assert not field.zero


def test_rectangles_are_kept_once() -> None:
    tape = Tape([])
    ids = grid(tape, 2, 3).ids
    for shape in ((2, 3), (1, 2, 3), (2, 1, 3, 1), (6,)):
        tape.rectangle(ids.reshape(shape))

    assert [tuple(r.shape) for r in tape.rectangles] == [(2, 3)]


def test_tensors_that_share_memory_know_each_other() -> None:
    base = torch.zeros(4)
    tape = Tape([("base", base)])
    half, other = base[:2], torch.zeros(4)
    part = half[:1]
    tape.alias(half, base)
    tape.alias(part, half)

    assert {id(t) for t in tape.aliases(base)} == {id(half), id(part)}
    assert {id(t) for t in tape.aliases(part)} == {id(base), id(half)}
    assert tape.aliases(other) == []

    del half
    gc.collect()

    assert [id(t) for t in tape.aliases(base)] == [id(part)]


def test_a_doubt_takes_the_zeros_away(tape: Tape, weight: Tensor) -> None:
    tape.doubt(weight)

    assert [f.zero for f in tape.labels(weight).fields] == [False, False]


def test_equal_labels_are_told_by_what_is_united() -> None:
    tape = Tape([])
    one, other = grid(tape, 3), grid(tape, 3)

    assert tape.same_labels([one], [one])
    assert not tape.same_labels([one], [other])

    tape.unify(one.ids.numpy(), other.ids.numpy(), WHY)

    assert tape.same_labels([one], [other])
    assert not tape.same_labels([one], [])


def test_statistics_are_rows_of_what_is_normalised_together() -> None:
    tape = Tape([])
    field = grid(tape, 2, 3)
    tape.declare([field], [1], WHY)
    tape.declare([tape.onto(field, [0])], [1], WHY)  # it does not vary there
    members, starts = tape.statistic_rows()

    assert [s.sets.tolist() for s in tape.statistics] == [field.ids.tolist()]
    assert members.tolist() == field.ids.flatten().tolist()
    assert starts.tolist() == [0, 3]


def test_counts_and_extents(tape: Tape, weight: Tensor) -> None:
    count = tape.count(weight, 2)

    assert count == tape.count(weight, 2) == Count(0)
    assert tape.count(weight, 1) is None
    assert tape.count(torch.zeros(3), 0) is None
    size, (ids,) = tape.extents[0]
    assert (size, ids.tolist()) == (4, [3, 4, 5, 6])


def test_a_literal_size_pins_and_a_computed_one_is_noted(tape: Tape, weight: Tensor) -> None:
    attribute = Attribute("m", "n", None, 4)
    fields = tape.labels(weight).fields
    tape.size(attribute, fields, 2, 4)
    tape.size(Constant(3), fields, 0, 3)
    tape.size(Constant(1), fields, 1, 1)

    assert [(s.expression, tape.extents[s.extent][0]) for s in tape.sizes] == [(attribute, 4)]
    assert tape.classes.immortal(np.arange(7)).tolist() == [True] * 3 + [False] * 4


def test_reasons_have_one_number_each(tape: Tape) -> None:
    first = tape.number(WHY)

    assert first > 0
    assert tape.number(Reason("test", "here", "for the test")) == first
    assert tape.number(Reason("other", "here", "for the test")) != first
    assert tape.reasons[first] == WHY


def test_a_place_is_the_module_and_the_line(tape: Tape) -> None:
    assert tape.place().startswith("(test_tape.py:")

    tape.modules.append("layer.0")

    assert tape.place().startswith("layer.0 (test_tape.py:")
    assert tape.reason("op", "why").operator == "op"

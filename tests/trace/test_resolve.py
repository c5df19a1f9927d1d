from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from secateur.trace.field import Field, rows
from secateur.trace.records import Block, Reason
from secateur.trace.resolve import resolve
from secateur.trace.tape import Tape

WHY = Reason("test", "", "for the test")


def grid(tape: Tape, *shape: int) -> Tensor:
    """A rectangle of fresh ids, registered as one."""
    count = int(np.prod(shape))
    ids = torch.arange(count).reshape(shape) + tape.classes.new(count)
    tape.rectangle(ids)
    return ids


def unite(tape: Tape, left: Tensor, right: Tensor) -> None:
    tape.classes.unify(left.reshape(-1).numpy(), right.reshape(-1).numpy(), tape.number(WHY))


def slices(tape: Tape, ids: Tensor, dim: int) -> Tensor:
    """The ids of "all of this slice is dead"."""
    return torch.from_numpy(tape.row(Field(ids, zero=True), [dim]))


def leaves(tape: Tape, name: str, size: int) -> Tensor:
    start = tape.classes.new(size)
    tape.blocks.append(Block(name, 0, start, size))
    return torch.arange(start, start + size)


def roots(tape: Tape, ids: Tensor) -> Tensor:
    return torch.from_numpy(tape.classes.find(ids.reshape(-1).numpy())).reshape(ids.shape)


def free(tape: Tape, ids: Tensor) -> int:
    """How many classes of these can leave."""
    found = np.unique(roots(tape, ids).numpy())
    return int((~tape.classes.immortal(found)).sum())


def choice(tape: Tape) -> list[int]:
    return [c.dim for c in resolve(tape)]


@st.composite
def tapes(draw: st.DrawFn) -> tuple[Tape, list[Tensor]]:
    """Rectangles whose slices are united with each other, with leaves, and pinned, by chance."""
    tape = Tape([])
    grids = []
    for _ in range(draw(st.integers(1, 3))):
        shape = draw(st.lists(st.integers(2, 3), min_size=2, max_size=3))
        grids.append(grid(tape, *shape))
    if draw(st.booleans()):  # one that is another, turned round
        turned = grids[0].movedim(0, -1)
        tape.rectangle(turned)
        grids.append(turned)
    for number in range(draw(st.integers(0, 4))):
        ids = draw(st.sampled_from(grids))
        dim = draw(st.integers(0, ids.dim() - 1))
        kind = draw(st.sampled_from(["leaf", "join", "pin", "pair", "statistic"]))
        if kind == "leaf":
            unite(tape, slices(tape, ids, dim), leaves(tape, f"w{number}", ids.shape[dim]))
        elif kind == "join":
            other = draw(st.sampled_from(grids))
            along = draw(st.integers(0, other.dim() - 1))
            if other.shape[along] == ids.shape[dim]:
                unite(tape, slices(tape, ids, dim), slices(tape, other, along))
        elif kind == "pin":
            which = draw(st.integers(0, ids.numel() - 1))
            tape.classes.pin(ids.reshape(-1)[which : which + 1].numpy(), tape.number(WHY))
        elif kind == "pair":
            unite(tape, ids.select(dim, 0), ids.select(dim, 1))
        else:
            tape.declare([Field(ids, zero=True)], [dim], WHY)
    return tape, grids


@settings(max_examples=150)
@given(tapes(), st.randoms(use_true_random=False))
def test_whatever_leaves_is_made_of_whole_slices(made: tuple[Tape, list[Tensor]], draw) -> None:  # type: ignore[no-untyped-def]
    """Afterwards any set of classes may go, and every tensor is still a rectangle."""
    tape, grids = made
    resolve(tape)
    everything = np.unique(tape.classes.find(np.arange(len(tape.classes))))
    mortal = everything[~tape.classes.immortal(everything)]
    for _ in range(4):
        dead = {int(root) for root in mortal if draw.random() < 0.5}
        for ids in grids:
            gone = torch.tensor([int(r) in dead for r in roots(tape, ids).flatten()])
            gone = gone.reshape(ids.shape)
            whole = False
            for dim in range(ids.dim()):
                in_slice = rows(gone, [dim])
                whole |= bool((in_slice.all(1) | ~in_slice.any(1)).all())
            assert whole, (ids, gone)


@settings(max_examples=100)
@given(tapes())
def test_a_node_dies_exactly_with_its_members(made: tuple[Tape, list[Tensor]]) -> None:
    """What is "all of these" is one of them, or stays, or nobody asks for it."""
    tape, _ = made
    resolve(tape)
    classes = tape.classes
    everything = classes.find(np.arange(len(classes)))
    for node, members in classes.undecided():
        root = int(classes.find(np.array([node]))[0])
        shared = int((everything == root).sum()) > 1
        pinned = bool(classes.immortal(np.array([root]))[0])
        assert pinned or not shared or bool(classes.immortal(members).any())


@settings(max_examples=60)
@given(tapes())
def test_resolving_again_chooses_nothing(made: tuple[Tape, list[Tensor]]) -> None:
    tape, grids = made
    resolve(tape)
    before = [roots(tape, ids) for ids in grids]

    assert not resolve(tape)
    assert all(torch.equal(a, roots(tape, ids)) for a, ids in zip(before, grids, strict=True))


def test_the_dim_with_the_most_slices() -> None:
    tape = Tape([])
    ids = grid(tape, 2, 5, 3)

    assert choice(tape) == [1]
    assert free(tape, ids) == 5


def test_rather_what_is_a_channel_elsewhere() -> None:
    """The three slices are rows of a parameter; the five are nothing by themselves."""
    tape = Tape([])
    ids = grid(tape, 3, 5)
    rows_of = leaves(tape, "w", 3)
    unite(tape, slices(tape, ids, 0), rows_of)

    assert choice(tape) == [0]
    assert free(tape, ids) == free(tape, rows_of) == 3


def test_rather_what_is_exact() -> None:
    """Each of the two rows is normalised by itself: whole rows leave exactly, columns do not."""
    tape = Tape([])
    ids = grid(tape, 2, 5)
    tape.declare([Field(ids, zero=True)], [1], WHY)

    assert choice(tape) == [0]
    assert free(tape, ids) == 2


def test_what_is_pinned_leaves_the_other_dim() -> None:
    """All five columns hold something that stays, so rows cannot leave but for the third."""
    tape = Tape([])
    ids = grid(tape, 3, 5)
    tape.classes.pin(ids[:2].reshape(-1)[::5].numpy(), tape.number(WHY))
    tape.classes.pin(ids[0].numpy(), tape.number(WHY))

    assert choice(tape) == [0]
    assert free(tape, ids) == 1
    assert len(set(roots(tape, ids[2]).tolist())) == 1


def test_a_rectangle_with_no_way_out_is_held_for_a_reason() -> None:
    tape = Tape([])
    ids = grid(tape, 2, 2)
    tape.classes.pin(torch.stack([ids[0, 0], ids[1, 1]]).numpy(), tape.number(WHY))

    assert choice(tape) == []
    assert free(tape, ids) == 0
    assert set(tape.classes.reason(ids.reshape(-1).numpy()).tolist()) == {tape.number(WHY)}


def test_what_the_other_dims_are_tied_to_stays() -> None:
    """Two rectangles that share a side cannot choose against each other."""
    tape = Tape([])
    wide, tall = grid(tape, 2, 5), grid(tape, 7, 2)
    unite(tape, slices(tape, wide, 0), slices(tape, tall, 1))

    assert sorted(choice(tape)) == [0, 1]
    assert (free(tape, wide), free(tape, tall)) == (5, 7)


def test_a_rectangle_that_varies_along_one_dim_only_needs_no_choice() -> None:
    tape = Tape([])
    ids = grid(tape, 3, 4)
    for column in range(1, 4):
        unite(tape, ids[:, 0], ids[:, column])

    assert choice(tape) == []
    assert free(tape, ids) == 3


def test_what_depends_on_several_channels_stays_and_leaves_one_of_them() -> None:
    tape = Tape([])
    a, b = leaves(tape, "a", 3), leaves(tape, "b", 2)
    both = torch.from_numpy(tape.classes.all_of(a[:2].numpy()[None]))
    unite(tape, both, b[:1])
    resolve(tape)

    assert free(tape, a) == 3
    assert free(tape, b) == 1
    assert any(set(members.tolist()) == set(a[:2].tolist()) for members in tape.not_all)


@pytest.mark.parametrize("name", ["w", ""])
def test_no_parameter_may_come_out_empty(name: str) -> None:
    tape = Tape([])
    ids = leaves(tape, name, 3)
    resolve(tape)

    assert [set(m.tolist()) for m in tape.not_all] == ([set(ids.tolist())] if name else [])

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.trace.alone import NOWHERE, Index, alone, carried, labels, numbered
from tests.trace.law import assert_exact, between, example, free

FEW = settings(max_examples=40)
SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)

Move = tuple[Callable[[Tensor], Any], Callable[[Index], Any]]  # in torch and in numpy


def axes(draw: st.DrawFn, rank: int) -> list[int]:
    """A permutation of the dims, some counted from the back."""
    order = draw(st.permutations(range(rank)))
    return [d - rank if draw(st.booleans()) else d for d in order]


def dim_of(draw: st.DrawFn, rank: int) -> int:
    return draw(st.integers(-rank, rank - 1))


def factors(draw: st.DrawFn, number: int) -> tuple[int, ...]:
    """A shape with this many elements."""
    shape = []
    while number > 1 and len(shape) < 4:
        divisor = draw(st.sampled_from([d for d in range(1, number + 1) if number % d == 0]))
        shape.append(divisor)
        number //= divisor
    return (*shape, number)


def views(draw: st.DrawFn, shape: tuple[int, ...]) -> Move:
    after = factors(draw, math.prod(shape))
    return draw(
        st.sampled_from(
            [
                (lambda x: x.view(after), lambda a: a.reshape(after)),
                (lambda x: x.reshape(after), lambda a: a.reshape(after)),
                (lambda x: x.flatten(), np.ravel),
                (lambda x: torch.ops.aten._unsafe_view(x, after), lambda a: a.reshape(after)),
            ]
        )
    )


def permutes(draw: st.DrawFn, shape: tuple[int, ...]) -> Move:
    order = axes(draw, len(shape))
    a, b = dim_of(draw, len(shape)), dim_of(draw, len(shape))
    moves: list[Move] = [
        (lambda x: x.permute(order), lambda i: np.transpose(i, order)),
        (lambda x: x.transpose(a, b), lambda i: np.swapaxes(i, a, b)),
        (lambda x: x.movedim(a, b), lambda i: np.moveaxis(i, a, b)),
    ]
    if len(shape) == 2:
        moves += [(torch.t, np.transpose), (lambda x: x.mT, np.transpose)]
    return draw(st.sampled_from(moves))


def stretches(draw: st.DrawFn, shape: tuple[int, ...]) -> Move:
    lead = tuple(draw(st.lists(st.integers(1, 3), max_size=2)))
    wide = lead + tuple(draw(st.integers(1, 3)) if size == 1 else size for size in shape)
    times = tuple(draw(st.integers(1, 3)) for _ in (*lead, *shape))
    return draw(
        st.sampled_from(
            [
                (lambda x: x.expand(wide), lambda i: np.broadcast_to(i, wide)),
                (lambda x: x.repeat(times), lambda i: np.tile(i, times)),
            ]
        )
    )


def ranks(draw: st.DrawFn, shape: tuple[int, ...]) -> Move:
    """New dims of size 1, and old ones gone; one is always left."""
    new = draw(st.integers(-len(shape) - 1, len(shape)))
    ones = [d for d, size in enumerate(shape) if size == 1]
    some = draw(st.sampled_from(ones)) if ones else 0
    moves: list[Move] = [(lambda x: x.unsqueeze(new), lambda i: np.expand_dims(i, new))]
    if len(ones) < len(shape):
        moves.append((lambda x: x.squeeze(), np.squeeze))
        moves.append((lambda x: x.squeeze(ones), lambda i: np.squeeze(i, tuple(ones))))
    if ones and len(shape) > 1:
        moves.append((lambda x: x.squeeze(some), lambda i: np.squeeze(i, some)))
    return draw(st.sampled_from(moves))


def turns(draw: st.DrawFn, shape: tuple[int, ...]) -> Move:
    dims = sorted(draw(st.sets(st.integers(0, len(shape) - 1))))
    times = draw(st.integers(-4, 4))
    moves: list[Move] = [(lambda x: x.flip(dims), lambda i: np.flip(i, dims))]
    if len(shape) > 1:
        moves.append(
            (lambda x: x.rot90(times, (0, -1)), lambda i: np.rot90(i, times, axes=(0, -1)))
        )
    return draw(st.sampled_from(moves))


def keeps(draw: st.DrawFn, shape: tuple[int, ...]) -> Move:
    return draw(
        st.sampled_from(
            [
                (torch.clone, np.copy),
                (Tensor.detach, np.copy),
                (lambda x: x.transpose(0, -1).contiguous(), lambda i: np.swapaxes(i, 0, -1)),
                (lambda x: x.to(torch.float32), np.copy),
                (lambda x: F.dropout(x, 0.5, training=False), np.copy),
            ]
        )
    )


MOVES = {f.__name__: f for f in (views, permutes, stretches, ranks, turns, keeps)}


@pytest.mark.parametrize("kind", MOVES)
@FEW
@given(data=st.data())
def test_labels_move_with_the_elements(kind: str, data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    move, twin = data.draw(st.composite(lambda draw: MOVES[kind](draw, shape))())
    ran = alone(move, shape)

    assert labels(ran, ran.out) == carried(ran, twin(numbered(shape)))
    assert ran.untouched()


@FEW
@given(st.data())
def test_moves_follow_each_other(data: st.DataObject) -> None:
    """Merged and divided again, in any order: several labels at an element, and still the right ones."""
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple))
    moves = []
    now = numbered(shape)
    for _ in range(data.draw(st.integers(2, 4))):
        kind = data.draw(st.sampled_from([views, permutes, ranks, turns]))
        move, twin = data.draw(st.composite(lambda draw, k=kind, s=now.shape: k(draw, s))())
        moves.append((move, twin))
        now = twin(now)

    def function(x: Tensor) -> Tensor:
        for move, _ in moves:
            x = move(x.contiguous())
        return x

    ran = alone(function, shape)

    assert labels(ran, ran.out) == carried(ran, now)
    assert ran.untouched()


@FEW
@given(st.integers(1, 2), st.integers(1, 3), st.integers(2, 3), st.integers(1, 2))
def test_pixels_are_shuffled(batch: int, channels: int, factor: int, side: int) -> None:
    shape = (batch, channels * factor**2, side, side)
    ran = alone(lambda x: F.pixel_shuffle(x, factor), shape)
    blocks = numbered(shape).reshape(batch, channels, factor, factor, side, side)
    twin = blocks.transpose(0, 1, 4, 2, 5, 3).reshape(ran.out.shape)

    assert labels(ran, ran.out) == carried(ran, twin)
    assert len(set(ran.classes(0, 1))) == channels * factor**2

    back = alone(lambda x: F.pixel_unshuffle(x, factor), tuple(ran.out.shape))
    maps = numbered(ran.out.shape).reshape(batch, channels, side, factor, side, factor)
    twin = maps.transpose(0, 1, 3, 5, 2, 4).reshape(shape)

    assert labels(back, back.out) == carried(back, twin)
    assert all(back.pinned(0, 2) + back.pinned(0, 3))
    assert channels == 1 or not any(back.pinned(0, 1))


@FEW
@given(st.integers(1, 4), st.integers(1, 4))
def test_shuffled_groups_lose_the_same(groups: int, width: int) -> None:
    shape = (2, groups * width, 2)
    ran = alone(lambda x: torch.channel_shuffle(x, groups), shape)
    twin = numbered(shape).reshape(2, groups, width, 2).swapaxes(1, 2).reshape(shape)

    assert labels(ran, ran.out) == carried(ran, twin)
    if width > 1 and groups > 1:
        assert ran.classes(0, 1) == ran.classes(0, 1)[:width] * groups
        assert len(set(ran.classes(0, 1))) == width
    assert ran.untouched() == (groups == 1 or width * groups == 1)


@FEW
@given(SHAPES.filter(lambda s: len(s) > 1), st.data())
def test_rows_and_columns_of_a_diagonal_meet(shape: tuple[int, ...], data: st.DataObject) -> None:
    offset = data.draw(st.sampled_from([0, 0, 0, -1, 1]))
    if data.draw(st.booleans()):
        shape = (shape[0], shape[0], *shape[2:])
    ran = alone(lambda x: x.diagonal(offset), shape)
    if ran.out.numel() > 1:
        assert labels(ran, ran.out) == carried(ran, numbered(shape).diagonal(offset))
    if shape[0] == shape[1] > 1 and offset == 0:
        assert ran.classes(0, 0) == ran.classes(0, 1)
        assert len(set(ran.classes(0, 0))) == shape[0]
        assert not any(ran.pinned(0, 0))
    else:
        assert all(all(ran.pinned(0, d)) for d in (0, 1) if shape[d] > 1)


@FEW
@given(SHAPES, st.data())
def test_what_is_selected_stays_with_all_before_it(
    shape: tuple[int, ...], data: st.DataObject
) -> None:
    dim = dim_of(data.draw, len(shape))
    size = shape[dim]
    index = data.draw(st.integers(-size, size - 1))
    ran = alone(lambda x: x.select(dim, index), shape)

    assert labels(ran, ran.out) == carried(ran, np.take(numbered(shape), index, axis=dim))
    if size > 1:
        counted = range(index + 1) if index >= 0 else range(size + index, size)
        assert ran.pinned(0, dim % len(shape)) == [i in counted for i in range(size)]


@FEW
@given(SHAPES, st.data())
def test_what_is_taken_apart_stays(shape: tuple[int, ...], data: st.DataObject) -> None:
    dim = dim_of(data.draw, len(shape))
    ran = alone(lambda x: x.unbind(dim), shape)
    for index, part in enumerate(ran.out):
        assert labels(ran, part) == carried(ran, np.take(numbered(shape), index, axis=dim))
    if shape[dim] > 1:
        assert all(ran.pinned(0, dim % len(shape)))
    others = [d for d in range(len(shape)) if d != dim % len(shape) and shape[d] > 1]
    assert not any(any(ran.pinned(0, d)) for d in others)


@FEW
@given(SHAPES, st.data())
def test_a_range_by_literal_numbers_holds_what_it_counts(
    shape: tuple[int, ...], data: st.DataObject
) -> None:
    dim = data.draw(st.integers(0, len(shape) - 1))
    size = shape[dim]
    bound = st.none() | st.integers(-size - 1, size + 1)
    start, end, step = data.draw(bound), data.draw(bound), data.draw(st.integers(1, 3))
    index = (slice(None),) * dim + (slice(start, end, step),)
    twin = numbered(shape)[index]
    if not twin.size:
        return
    ran = alone(lambda x: x[index], shape)

    assert labels(ran, ran.out) == carried(ran, twin)
    if size > 1:
        low, high, _ = slice(start, end).indices(size)
        held = set(range(size)) if step > 1 else set(range(low))
        if step == 1 and high < size:
            held |= set(range(high))
        pinned = {i for i, is_pinned in enumerate(ran.pinned(0, dim)) if is_pinned}
        lone = {low} if high - low == 1 else set[int]()  # it is all there is of the result

        assert held <= pinned <= held | lone


@FEW
@given(SHAPES, st.data())
def test_equal_parts_lose_the_same(shape: tuple[int, ...], data: st.DataObject) -> None:
    dim = dim_of(data.draw, len(shape))
    parts = data.draw(st.integers(1, 3))
    wide = list(shape)
    wide[dim] *= parts
    split, cut = data.draw(
        st.sampled_from(
            [
                (lambda x: x.chunk(parts, dim), parts),
                (lambda x: x.split(shape[dim], dim), parts),
                (lambda x: torch.tensor_split(x, parts, dim), parts),
            ]
        )
    )
    ran = alone(split, wide)
    twins = np.split(numbered(wide), cut, axis=dim)
    for part, twin in zip(ran.out, twins, strict=True):
        assert labels(ran, part) == carried(ran, twin)
    found = ran.classes(0, dim % len(shape)) if wide[dim] > 1 else []
    if found and not any(ran.pinned(0, dim % len(shape))):
        assert found == found[: shape[dim]] * parts
        assert len(set(found)) == shape[dim]


@FEW
@given(st.lists(st.integers(1, 4), min_size=2, max_size=4), st.integers(0, 1))
def test_unequal_parts_by_literal_sizes_stay(sizes: list[int], dim: int) -> None:
    shape = [3, 3]
    shape[dim] = sum(sizes)
    ran = alone(lambda x: x.split(sizes, dim), shape)
    for part, twin in zip(
        ran.out, np.split(numbered(shape), np.cumsum(sizes)[:-1], axis=dim), strict=True
    ):
        assert labels(ran, part) == carried(ran, twin)
    assert all(ran.pinned(0, dim))
    assert not any(ran.pinned(0, 1 - dim))


@FEW
@given(SHAPES, st.lists(st.integers(1, 3), min_size=2, max_size=3), st.data())
def test_joined_labels_follow_each_other(
    shape: tuple[int, ...], sizes: list[int], data: st.DataObject
) -> None:
    dim = dim_of(data.draw, len(shape))
    shapes = []
    for size in sizes:
        part = list(shape)
        part[dim] = size
        shapes.append(tuple(part))
    ran = alone(lambda *parts: torch.cat(parts, dim), *shapes)
    mark = [np.full(s, i) for i, s in enumerate(shapes)]
    owner = np.concatenate(mark, dim).ravel()
    sources = np.concatenate([numbered(s) for s in shapes], dim).ravel()
    expected = [frozenset[int]()] * len(owner)
    for position in range(len(shapes)):
        own = carried(ran, np.where(owner == position, sources, NOWHERE), position)
        expected = [a | b for a, b in zip(expected, own, strict=True)]

    # A part of one index in the joined dim has no label there: nothing says that it may leave.
    assert labels(ran, ran.out) == expected
    for d in range(len(shape)):
        if d != dim % len(shape) and shape[d] > 1:
            columns = [tuple(ran.classes(i, d)) for i in range(len(shapes))]
            assert len(set(columns)) == 1
            assert len(set(columns[0])) == shape[d]
            assert not any(ran.pinned(0, d))


@FEW
@given(SHAPES, st.integers(1, 3), st.data())
def test_stacked_tensors_meet(shape: tuple[int, ...], count: int, data: st.DataObject) -> None:
    dim = data.draw(st.integers(-len(shape) - 1, len(shape)))
    ran = alone(lambda *parts: torch.stack(parts, dim), *[shape] * count)
    twin = np.stack([numbered(shape)] * count, dim)

    assert labels(ran, ran.out) == carried(ran, twin)
    for d, size in enumerate(shape):
        if size > 1:
            assert len({tuple(ran.classes(i, d)) for i in range(count)}) == 1
            assert len(set(ran.classes(0, d))) == size
            assert not any(ran.pinned(0, d))


@FEW
@given(SHAPES, st.data())
def test_padding_belongs_to_nothing(shape: tuple[int, ...], data: st.DataObject) -> None:
    rank = len(shape)
    padded = data.draw(st.integers(1, rank))
    amounts = data.draw(st.lists(st.integers(0, 2), min_size=2 * padded, max_size=2 * padded))
    value = data.draw(st.sampled_from([0.0, 1.5]))
    ran = alone(lambda x: F.pad(x, amounts, value=value), shape)
    pairs = [(0, 0)] * (rank - padded)
    pairs += [(amounts[2 * i], amounts[2 * i + 1]) for i in reversed(range(padded))]
    # A pixel of the border has no label along the padded dim, but keeps those of the others.
    along = [
        np.pad(np.arange(n), pair, constant_values=NOWHERE)
        for n, pair in zip(shape, pairs, strict=False)
    ]
    expected = []
    for at in itertools.product(*along):
        ids = [ran.leaf("w0", d, i) for d, i in enumerate(at) if i != NOWHERE and shape[d] > 1]
        expected.append(frozenset(ids))

    assert labels(ran, ran.out) == expected
    assert ran.untouched()
    others = [d for d in range(rank) if shape[d] > 1]
    assert not any(any(ran.pinned(0, d)) for d in others)


@FEW
@given(SHAPES, st.data())
def test_rolled_dims_stay(shape: tuple[int, ...], data: st.DataObject) -> None:
    dims = sorted(data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1)))
    shifts = [data.draw(st.integers(-5, 5)) for _ in dims]
    ran = alone(lambda x: x.roll(shifts, dims), shape)
    twin = np.roll(numbered(shape), shifts, dims)

    assert labels(ran, ran.out) == carried(ran, twin)
    for d, size in enumerate(shape):
        if size > 1:
            assert ran.pinned(0, d) == [d in dims] * size


def test_rolling_all_at_once_holds_every_dim() -> None:
    ran = alone(lambda x: x.roll(2), (2, 3))

    assert all(ran.pinned(0, 0) + ran.pinned(0, 1))


@FEW
@given(st.integers(2, 4), st.integers(3, 6), st.integers(1, 2), st.integers(1, 3))
def test_windows_hold_the_dim_they_slide_along(rows: int, size: int, step: int, width: int) -> None:
    ran = alone(lambda x: x.unfold(1, width, step), (rows, size))
    count = (size - width) // step + 1
    starts = np.arange(count)[:, None] * step + np.arange(width)

    assert labels(ran, ran.out) == carried(ran, numbered((rows, size))[:, starts])
    assert all(ran.pinned(0, 1))
    assert not any(ran.pinned(0, 0))


def test_complex_numbers_are_pairs() -> None:
    ran = alone(torch.view_as_complex, (3, 2))

    assert labels(ran, ran.out) == carried(ran, numbered((3, 2))[:, 0])
    assert ran.pinned(0, 1) == [True, True]

    back = alone(torch.view_as_real, torch.randn(3, dtype=torch.complex128))

    assert labels(back, back.out) == carried(back, numbered((3,))[:, None].repeat(2, 1))


def test_strides_of_their_own_are_refused() -> None:
    ran = alone(lambda x: x.as_strided((2, 2), (3, 1)), (3, 3))

    assert all(ran.pinned(0, 0) + ran.pinned(0, 1))
    assert labels(ran, ran.out) == [frozenset()] * 4

    plain = alone(lambda x: x.as_strided((3, 3), (3, 1)), (3, 3))

    assert plain.untouched()
    assert labels(plain, plain.out) == carried(plain, numbered((3, 3)))


# ---- the same in a network ------------------------------------------------------------------

CHANNELS = st.sampled_from([4, 6, 8, 12])
SHAPES_IN_NETWORKS: dict[str, tuple[Callable[[Any, Tensor], Tensor], Callable[[int], int]]] = {
    # name: (what is done to (b, c, 2, 2); how many units are left of c)
    "flatten": (lambda n, x: x.flatten(1), lambda c: c),
    "permute": (lambda n, x: x.permute(0, 2, 3, 1), lambda c: c),
    "transpose in place": (lambda n, x: x.clone().transpose_(1, 3), lambda c: c),
    "chunk": (lambda n, x: x.chunk(2, 1)[0] * 2 + x.chunk(2, 1)[1], lambda c: c // 2),
    "split": (lambda n, x: torch.cat(x.split(n.sizes[0], 1)[::-1], 1), lambda c: c // 2),
    "sizes of the split": (
        lambda n, x: torch.cat(x.split([n.sizes[0], x.shape[1] - n.sizes[0]], 1)[::-1], 1),
        lambda c: c,
    ),
    "halves": (
        lambda n, x: torch.cat([x[:, x.shape[1] // 2 :], x[:, : x.shape[1] // 2]], 1),
        lambda c: 0,  # half the width, whichever half loses: the code cannot follow
    ),
    "flip": (lambda n, x: x + 2 * x.flip(1), lambda c: c // 2),
    "expand": (lambda n, x: x[:, :, None].expand(-1, -1, 3, -1, -1), lambda c: c),
    "repeat": (lambda n, x: x.repeat(1, 2, 1, 1), lambda c: c),
    "repeat_interleave": (lambda n, x: x.repeat_interleave(2, 1), lambda c: c),
    "stack": (lambda n, x: torch.stack([x, x.sin()], 2), lambda c: c),
    "pad": (lambda n, x: F.pad(x, (1, 0, 0, 1, 2, 1), value=0.3), lambda c: c),
    "roll over space": (lambda n, x: x.roll(1, 3), lambda c: c),
    "unfold": (lambda n, x: x.unfold(2, 2, 1), lambda c: c),
    "pixel_shuffle": (lambda n, x: F.pixel_shuffle(x, 2), lambda c: c // 4),
    "view by an attribute": (
        lambda n, x: x.view(x.shape[0], n.sizes[0], -1, 2, 2).transpose(1, 2),
        lambda c: c // 2,
    ),
    "diagonal": (lambda n, x: x.diagonal(dim1=2, dim2=3), lambda c: c),
    "trace of a covariance": (
        lambda n, x: (x.flatten(2) @ x.flatten(2).mT).diagonal(dim1=1, dim2=2),
        lambda c: c,
    ),
    "read as another type and back": (
        lambda n, x: x.view(torch.int64).view(torch.float64),
        lambda c: c,
    ),
}


@pytest.mark.parametrize("name", SHAPES_IN_NETWORKS)
@settings(max_examples=8)
@given(channels=CHANNELS, shifted=st.booleans())
def test_a_network_loses_units_exactly(name: str, channels: int, shifted: bool) -> None:
    function, left = SHAPES_IN_NETWORKS[name]
    if name == "pixel_shuffle" and channels % 4:
        return
    shifted = shifted and name not in ("pixel_shuffle", "view by an attribute")
    model = between(function, channels, (2, 2), sizes=(channels // 2,), shifted=shifted)
    found = free(assert_exact(model, example(model, 2, 2)), "writer.weight:0")
    assert found == (0 if left(channels) == 1 else left(channels))  # a lone channel cannot leave


@pytest.mark.parametrize(
    ("function", "operator"),
    [
        (lambda n, x: x[:, ::2] - x[:, 1::2], "slice"),
        (lambda n, x: x.roll(1, 1), "roll"),
        (lambda n, x: sum(x.unbind(1)), "unbind"),
        (lambda n, x: x.view(2, 3, 2, 2, 2), "view"),
        (lambda n, x: x.flatten(2).mT.diagonal(dim1=1, dim2=2), "diagonal"),
        (lambda n, x: x.view(torch.int32).double(), "view"),
        (lambda n, x: x.as_strided((2, 3, 2), (24, 4, 1)), "as_strided"),
        (lambda n, x: F.pad(x, (0, 0, 0, 0, -1, 0)), "pad"),
        (lambda n, x: torch.cat(x.split([2, 4], 1)[::-1], 1), "split"),
    ],
)
def test_what_cannot_follow_is_named(function: Callable[..., Tensor], operator: str) -> None:
    model = between(function, 6, (2, 2))
    groups = assert_exact(model, example(model, 2, 2))
    held = [fixed for fixed in groups.fixed if fixed.name == "writer.weight"]

    assert not groups.groups
    assert {fixed.operator for fixed in held} == {operator}
    assert all("test_shape.py:" in fixed.where for fixed in held)

from __future__ import annotations

import itertools

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from secateur.trace.field import Field, aligned, rows, squeezed

SHAPES = st.lists(st.integers(1, 3), min_size=1, max_size=4)


@st.composite
def labelled(draw: st.DrawFn) -> Tensor:
    """Ids that vary along some dims only."""
    shape = draw(SHAPES)
    varying = [size if draw(st.booleans()) else 1 for size in shape]
    count = int(torch.Size(varying).numel())
    entries = draw(st.lists(st.integers(-1, 3), min_size=count, max_size=count))
    return torch.tensor(entries).reshape(varying).expand(shape)


def varies(ids: Tensor, dim: int) -> bool:
    """Whether two elements that differ in this coordinate alone differ."""
    return any(
        bool((ids.select(dim, i) != ids.select(dim, 0)).any()) for i in range(ids.shape[dim])
    )


@given(labelled(), st.booleans())
def test_squeezing_keeps_what_varies_and_nothing_else(ids: Tensor, dense: bool) -> None:
    ids = ids.contiguous() if dense else ids
    narrow = squeezed(ids)

    assert torch.equal(narrow.expand(ids.shape), ids)
    assert [size > 1 for size in narrow.shape] == [varies(ids, d) for d in range(ids.dim())]


def test_ends_that_agree_do_not_hide_the_middle() -> None:
    assert squeezed(torch.tensor([[0, 1, 0], [2, 2, 2]])).shape == (2, 3)
    assert squeezed(torch.tensor([[0, 1, 0]])).shape == (1, 3)


@given(labelled(), st.data())
def test_rows_hold_everything_at_a_place(ids: Tensor, data: st.DataObject) -> None:
    dims = sorted(data.draw(st.sets(st.integers(0, ids.dim() - 1))))
    found = rows(ids, dims)
    places = list(itertools.product(*(range(ids.shape[d]) for d in dims)))

    assert found.shape[0] == len(places)
    for row, place in zip(found, places, strict=True):
        index: list[slice | int] = [slice(None)] * ids.dim()
        for d, i in zip(dims, place, strict=True):
            index[d] = i
        assert sorted(row.tolist()) == sorted(ids[tuple(index)].flatten().tolist())


@given(labelled(), st.integers(0, 2))
def test_dims_are_added_in_front(ids: Tensor, more: int) -> None:
    wide = aligned(ids, ids.dim() + more)

    assert wide.shape == (1,) * more + tuple(ids.shape)
    assert torch.equal(wide.reshape(ids.shape), ids)


def test_the_dims_of_a_field_are_those_along_which_it_varies() -> None:
    field = Field(torch.tensor([[[1], [2]]]), zero=True, leaves=frozenset({("w", 0)}))

    assert field.dims == (1,)

    moved = field.over(torch.tensor([[1, 2], [1, 2]]))

    assert moved.dims == (1,)
    assert moved.ids.tolist() == [[1, 2]]
    assert (moved.zero, moved.leaves) == (True, field.leaves)

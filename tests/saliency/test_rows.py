from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from secateur.saliency.rows import grown


def drawn(rows: int, seed: int, *shape: int) -> Tensor:
    return torch.randn(rows, *shape, generator=torch.Generator().manual_seed(seed))


def with_more(rows: Tensor, more: Tensor, most: int = 0) -> Tensor:
    whole, added = grown(rows, len(more), most)
    added.copy_(more)
    return whole


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), min_size=1, max_size=9),
    st.integers(0, 12),
    st.sampled_from([(), (1,), (3, 2), (0, 2)]),
)
def test_any_tree_of_additions_is_that_of_cat(
    steps: list[tuple[int, int]], most: int, shape: tuple[int, ...]
) -> None:
    """Each step adds to any earlier tensor, so several may want the same room."""
    made, expected = [drawn(0, 0, *shape)], [drawn(0, 0, *shape)]
    for number, (before, more) in enumerate(steps):
        new = drawn(more, number, *shape)
        made.append(with_more(made[before % len(made)], new, most))
        expected.append(torch.cat([expected[before % len(expected)], new]))
    for one, other in zip(made, expected, strict=True):
        assert torch.equal(one, other)


def test_rows_stay_where_they_are_while_there_is_room() -> None:
    first = with_more(drawn(0, 0, 4), drawn(3, 1, 4), most=8)
    second = with_more(first, drawn(5, 2, 4))
    assert second.data_ptr() == first.data_ptr()
    third = with_more(second, drawn(1, 3, 4))
    assert third.data_ptr() != second.data_ptr()
    assert torch.equal(third[:8], second)


def test_of_two_that_add_to_the_same_rows_one_moves() -> None:
    rows = with_more(drawn(0, 0, 2), drawn(2, 1, 2), most=9)
    left, right = with_more(rows, drawn(1, 2, 2)), with_more(rows, drawn(1, 3, 2))
    assert left.data_ptr() == rows.data_ptr() != right.data_ptr()
    assert torch.equal(left[2:], drawn(1, 2, 2))
    assert torch.equal(right[2:], drawn(1, 3, 2))


@pytest.mark.parametrize("cut", [slice(1, None), slice(None, -1), slice(None, None, 2)], ids=str)
def test_a_part_of_rows_has_no_room_behind_it(cut: slice) -> None:
    rows = with_more(drawn(0, 0, 2), drawn(4, 1, 2), most=9)
    grew = with_more(rows[cut], drawn(1, 2, 2))
    assert torch.equal(rows, drawn(4, 1, 2))
    assert torch.equal(grew, torch.cat([drawn(4, 1, 2)[cut], drawn(1, 2, 2)]))


def test_a_row_that_is_shown_several_times_has_no_room_behind_it() -> None:
    rows = with_more(drawn(0, 0, 2), drawn(4, 1, 2), most=9)
    grew = with_more(rows[:1].expand(4, 2), drawn(1, 2, 2))
    assert torch.equal(grew, torch.cat([rows[:1].expand(4, 2), drawn(1, 2, 2)]))
    assert torch.equal(rows, drawn(4, 1, 2))


def test_the_dtype_stays() -> None:
    rows = torch.ones(2, 3, dtype=torch.float64)
    assert with_more(rows, rows).dtype is torch.float64

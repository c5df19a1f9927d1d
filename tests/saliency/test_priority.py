from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from secateur.saliency.priority import kept_rows, priorities
from secateur.types.batches import Batch


def numbers(x: Any, samples: int, seed: int = 0) -> Tensor:
    return priorities(Batch("batch 0", x, None, samples), seed)


KINDS = {
    "floats": torch.randn(2000, 12, generator=torch.Generator().manual_seed(0)),
    "zeros and ones": (torch.arange(2000)[:, None] >> torch.arange(11) & 1).float(),
    "bytes": (torch.arange(2000)[:, None] >> torch.arange(11) & 1).to(torch.uint8) * 255,
    "truth values": torch.arange(2000)[:, None] >> torch.arange(11) & 1 == 1,
    "tokens": torch.arange(2000)[:, None],
    "half": (torch.arange(2000)[:, None] >> torch.arange(11) & 1).half() - 0.5,
    "complex": torch.complex(torch.arange(2000.0), torch.ones(2000))[:, None],
}


@pytest.mark.parametrize("kind", KINDS)
def test_different_samples_have_numbers_that_differ_in_every_bit(kind: str) -> None:
    """Of zeros and ones only a few high bits differ: they must reach all bits of the number."""
    found = numbers(KINDS[kind], 2000)
    assert len(found.unique()) == 2000
    for shift in range(63):  # all but the sign
        share = float((found >> shift & 1).double().mean())
        assert 0.4 < share < 0.6
    assert not torch.equal(found, numbers(KINDS[kind], 2000, seed=1))


@given(st.permutations(range(8)), st.sets(st.integers(1, 7)))
def test_they_belong_to_the_sample_and_not_to_its_place(order: list[int], cuts: set[int]) -> None:
    x = (KINDS["floats"][:8], {"mask": KINDS["zeros and ones"][:8]})
    whole = numbers(x, 8)
    for a, b in pairwise([0, *sorted(cuts), 8]):
        part = order[a:b]
        moved = (x[0][part], {"mask": x[1]["mask"][part]})
        assert torch.equal(numbers(moved, len(part)), whole[part])


def test_every_input_counts_that_has_a_row_for_each_sample() -> None:
    x, mask = KINDS["floats"][:5], KINDS["zeros and ones"][:5]
    alone = numbers(x, 5)
    assert not torch.equal(numbers((x, mask), 5), alone)
    assert torch.equal(numbers((x, torch.tensor(0.5), torch.ones(3), "text"), 5), alone)


def test_equal_numbers_are_equal_in_every_float() -> None:
    x = KINDS["half"]
    assert torch.equal(numbers(x, 2000), numbers(x.double(), 2000))
    assert torch.equal(numbers(x * 0.0, 2000), numbers(x * -0.0, 2000))


def test_large_samples_are_worked_on_in_pieces() -> None:
    x = torch.randn(3, 3_000_000)
    assert torch.equal(numbers(x, 3)[1:2], numbers(x[1:2], 1))


MANY = 10**6
Rows = list[tuple[int, int]]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-5, 5)), max_size=20), st.integers(1, 4))
def test_of_each_class_those_of_lowest_number_stay(rows: Rows, most: int) -> None:
    classes, order = (torch.tensor([row[i] for row in rows], dtype=torch.int64) for i in (0, 1))
    expected = []
    for label in range(4):
        own = sorted((n, i) for i, (c, n) in enumerate(rows) if c == label)
        expected += [i for _, i in own[:most]]
    assert kept_rows(classes, order, most, MANY).tolist() == sorted(expected)
    assert kept_rows(classes, order, None, MANY).tolist() == list(range(len(rows)))


@given(
    st.lists(st.integers(0, 5), min_size=2, max_size=30), st.integers(1, 29), st.data(),
    st.sampled_from([2, 3, None]), st.integers(0, 20),
)  # fmt: skip
def test_two_parts_together_keep_what_the_whole_keeps(
    labels: list[int], cut: int, data: st.DataObject, per_class: int | None, total: int
) -> None:
    order = torch.tensor(data.draw(st.permutations(range(len(labels)))))
    classes = torch.tensor(labels)
    whole = kept_rows(classes, order, per_class, total)
    first = kept_rows(classes[:cut], order[:cut], per_class, total)
    second = kept_rows(classes[cut:], order[cut:], per_class, total) + min(cut, len(labels))
    both = torch.cat([first, second])
    kept = both[kept_rows(classes[both], order[both], per_class, total)]
    assert torch.equal(kept, whole)
    kinds = len(set(labels))
    assert len(whole) <= max(4, total, 2 * min(kinds, max(2, total // 2)))
    assert len(classes[whole].unique()) == min(kinds, max(2, total // 2))

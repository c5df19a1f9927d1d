from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from secateur.granularity import Channels
from tests.trace.alone import alone, carried, labels, numbered
from tests.trace.law import assert_exact, between, example, free, randomised

FEW = settings(max_examples=30)


@FEW
@given(st.integers(2, 6), st.integers(2, 5), st.lists(st.integers(0, 1), min_size=1, max_size=4))
def test_rows_of_a_table_stay_and_columns_leave(rows: int, width: int, picked: list[int]) -> None:
    index = torch.tensor([picked])
    ran = alone(lambda w: F.embedding(index, w), (rows, width))

    assert all(ran.pinned(0, 0))
    assert not any(ran.pinned(0, 1))
    assert labels(ran, ran.out) == carried(ran, numbered((rows, width))[np.array([picked])])


@FEW
@given(st.integers(2, 4), st.integers(2, 4), st.integers(0, 1), st.data())
def test_picked_dims_stay(rows: int, width: int, dim: int, data: st.DataObject) -> None:
    shape = (rows, width)
    picked = data.draw(st.lists(st.integers(0, shape[dim] - 1), min_size=1, max_size=5))
    index = torch.tensor(picked)
    twin = np.take(numbered(shape), picked, axis=dim)
    ways: list[Callable[[Tensor], Tensor]] = [
        lambda x: x.index_select(dim, index),
        lambda x: x[index] if dim == 0 else x[:, index],
        lambda x: x[picked] if dim == 0 else x[:, picked],
    ]
    for way in ways:
        ran = alone(way, shape)
        assert labels(ran, ran.out) == carried(ran, twin)
        assert all(ran.pinned(0, dim))
        assert not any(ran.pinned(0, 1 - dim))


@FEW
@given(st.data())
def test_any_index_carries_what_is_not_indexed(data: st.DataObject) -> None:
    """Several indices, apart or side by side, of any shape; numpy moves elements as torch does."""
    shape = (2, 3, 4)
    at = data.draw(st.lists(st.booleans(), min_size=3, max_size=3).filter(any))
    index: list[Any] = []
    for size, is_picked in zip(shape, at, strict=True):
        picker = data.draw(st.lists(st.integers(-size, size - 1), min_size=2, max_size=2))
        index.append(torch.tensor(picker) if is_picked else slice(None))
    ran = alone(lambda x: x[tuple(index)], shape)
    twin = numbered(shape)[tuple(i if isinstance(i, slice) else i.numpy() for i in index)]

    assert labels(ran, ran.out) == carried(ran, twin)
    for d, is_picked in enumerate(at):
        assert ran.pinned(0, d) == [is_picked] * shape[d]


def test_a_mask_holds_all_dims_that_it_covers() -> None:
    mask = torch.rand(2, 3) > 0.5
    mask[0, 0] = True
    ran = alone(lambda x: x[mask], (2, 3, 4))

    assert labels(ran, ran.out) == carried(ran, numbered((2, 3, 4))[mask.numpy()])
    assert all(ran.pinned(0, 0) + ran.pinned(0, 1))
    assert not any(ran.pinned(0, 2))


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_gather_holds_its_dim(dim: int) -> None:
    shape = (2, 3, 4)
    twin = np.take_along_axis(numbered(shape), np.zeros(shape, int), dim)
    for function in (torch.gather, lambda x, d, i: torch.take_along_dim(x, i, d)):
        ran = alone(lambda x, f=function: f(x, dim, torch.zeros_like(x, dtype=torch.long)), shape)

        assert labels(ran, ran.out) == carried(ran, twin)
        assert [all(ran.pinned(0, d)) for d in range(3)] == [d == dim for d in range(3)]


def test_gathering_less_than_there_is() -> None:
    """`gather` takes the first indices of the other dims too."""
    index = torch.tensor([[0, 1]])
    ran = alone(lambda x: x.gather(0, index), (3, 4))

    assert labels(ran, ran.out) == carried(ran, np.array([[0, 5]]))
    assert all(ran.pinned(0, 1))


def test_an_index_of_its_own_size_holds_what_it_meets() -> None:
    class Picked(nn.Module):
        def __init__(self, index: Tensor) -> None:
            super().__init__()
            self.writer, self.reader = nn.Conv1d(3, 5, 1), nn.Conv1d(5, 2, 1)
            self.register_buffer("index", index)

        def forward(self, x: Tensor) -> Tensor:
            return self.reader(self.writer(x).take_along_dim(self.index, 2))

    x = torch.randn(2, 3, 4, dtype=torch.float64)
    groups = assert_exact(randomised(Picked(torch.randint(4, (2, 5, 3)))), x)

    assert {f.operator for f in groups.fixed if f.name == "writer.weight"} == {"gather"}


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags(mode: str) -> None:
    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bag, self.reader = nn.EmbeddingBag(7, 5, mode=mode), nn.Linear(5, 2)

        def forward(self, index: Tensor) -> Tensor:
            return self.reader(self.bag(index))

    model = randomised(Bag())
    groups = assert_exact(model, torch.tensor([[0, 3, 3], [6, 1, 2]]))

    assert free(groups, "bag.weight:1") == 5
    assert free(groups, "bag.weight:0") == 0


def test_an_embedding_in_a_network() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.reader = nn.Embedding(7, 5, padding_idx=0), nn.Linear(5, 2)

        def forward(self, index: Tensor) -> Tensor:
            return self.reader(self.words(index)).mean(1)

    model = randomised(Words())
    groups = assert_exact(model, torch.tensor([[0, 3, 3], [6, 1, 2]]))

    assert free(groups, "words.weight:1") == 5


PICKS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "index_select": lambda n, x: x.index_select(2, torch.tensor([1, 1, 0])),
    "index": lambda n, x: x[:, :, [0, 2]],
    "gather": lambda n, x: x.gather(2, torch.zeros(2, x.shape[1], 1, dtype=torch.long)),
    "where": lambda n, x: torch.where(x > 0, x, x.sin() - 1),
    "where scalar": lambda n, x: torch.where(x > 0, x, 0.3),
}


@pytest.mark.parametrize("name", PICKS)
@pytest.mark.parametrize("shifted", [False, True])
def test_channels_leave_exactly(name: str, shifted: bool) -> None:
    model = between(PICKS[name], 5, (4,), shifted=shifted)

    assert free(assert_exact(model, example(model, 4)), "writer.weight:0") == 5

    plain = between(PICKS[name], 5, (4,), shifted=shifted, gain=False)
    assert_exact(plain, example(plain, 4), declared=True)


@pytest.mark.parametrize(
    ("function", "operator"),
    [
        (lambda n, x: x[:, [0, 3, 3]], "index"),
        (lambda n, x: x.index_select(1, torch.tensor([0, 2])), "index_select"),
        (lambda n, x: x * x.flatten(1).nonzero().shape[0], "nonzero"),
        (lambda n, x: x * float(x[0, 2, 0].item()), "select"),
        (lambda n, x: x + torch.arange(x.numel()).view_as(x), "view_as|add"),
    ],
)
def test_channels_that_become_data_are_refused(
    function: Callable[..., Tensor], operator: str
) -> None:
    model = between(function, 5, (4,))
    groups = assert_exact(model, example(model, 4))
    held = {fixed.operator for fixed in groups.fixed if fixed.name == "writer.weight"}

    assert held
    assert held <= set(operator.split("|"))


def test_a_question_about_all_channels_is_declared() -> None:
    model = between(lambda n, x: x * bool((x < 9).all()), 5, (4,))
    groups = assert_exact(model, example(model, 4), declared=True)

    assert [place.operator for place in groups.groups[0].declared] == ["all"]


MADE: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "zeros": lambda n, x: x + torch.zeros(x.shape[1], 1),
    "zeros of a size": lambda n, x: x + torch.zeros(x.size(), dtype=x.dtype),
    "ones": lambda n, x: x * torch.ones(1, x.size(1), 1),
    "full": lambda n, x: x + torch.full((x.shape[1], 1), 0.25, dtype=x.dtype),
    "new_zeros": lambda n, x: torch.cat([x, x.new_zeros(x.shape[0], x.shape[1], 2)], 2),
    "new_full": lambda n, x: x + x.new_full((x.shape[1], 1), 2.0),
    "attribute": lambda n, x: x + torch.ones(n.sizes[0], 1),
}


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("shifted", [False, True])
def test_tensors_made_in_a_size_that_follows(name: str, shifted: bool) -> None:
    model = between(MADE[name], 5, (4,), sizes=(5,), shifted=shifted)
    groups = assert_exact(model, example(model, 4))

    assert free(groups, "writer.weight:0") == 5

    plain = between(MADE[name], 5, (4,), sizes=(5,), shifted=shifted, gain=False)
    assert_exact(plain, example(plain, 4), declared=True)


@pytest.mark.parametrize(
    "function",
    [
        lambda n, x: x + torch.zeros(5, 1),
        lambda n, x: x * torch.ones(1, 5, 1),
        lambda n, x: x + torch.linspace(0, 1, 5).view(-1, 1),
        lambda n, x: x + torch.eye(5, 4),
        lambda n, x: x + torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]).view(-1, 1),
    ],
)
def test_tensors_made_in_a_literal_size_hold_it(function: Callable[..., Tensor]) -> None:
    model = between(function, 5, (4,))

    assert not Channels().find(model, example(model, 4)).groups

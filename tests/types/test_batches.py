from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from secateur.errors import DataError
from secateur.types.batches import batches, finite, split

CPU = torch.device("cpu")
X, Y = torch.randn(4, 3), torch.arange(4)


def test_split_knows_every_form() -> None:
    named = {"ids": X}
    assert split(X) == (X, None)
    assert split((X, Y)) == (X, Y)
    assert split([X]) == (X, None)
    assert split(named) == (named, None)
    assert split((named, Y)) == (named, Y)
    assert split(((X, X), None)) == ((X, X), None)


@pytest.mark.parametrize("batch", [(X, Y, Y), (), 3, "text", None])
def test_split_refuses_what_is_no_batch(batch: object) -> None:
    with pytest.raises(DataError, match="a batch is x or"):
        split(batch)


def test_a_data_loader_gives_checked_batches() -> None:
    found = list(batches(DataLoader(TensorDataset(X, Y), batch_size=3), CPU))
    assert [(b.where, b.samples) for b in found] == [("batch 0", 3), ("batch 1", 1)]
    assert torch.equal(torch.cat([b.y for b in found]), Y)


def test_the_limit_holds_and_reads_no_further() -> None:
    read = []

    def source() -> Iterator[Tensor]:
        for i in range(9):
            read.append(i)
            yield X

    assert len(list(batches(source(), CPU, 2))) == 2
    assert read == [0, 1]


@pytest.mark.parametrize("data", [[], iter(()), DataLoader([])])
def test_empty_data(data: Iterable[object]) -> None:
    with pytest.raises(DataError, match="no batch"):
        list(batches(data, CPU))


@pytest.mark.parametrize("data", [X, {"x": X}, 3, None])
def test_what_is_no_data(data: object) -> None:
    with pytest.raises(DataError, match="iterable of batches"):
        list(batches(data, CPU))


@pytest.mark.parametrize(
    "bad",
    [torch.tensor([[float("nan")]]), torch.tensor([[float("inf")]]), X[:0], torch.tensor(1.0)],
)
def test_a_bad_batch_is_named(bad: Tensor) -> None:
    source = batches([(X, Y), (bad, Y)], CPU)
    next(source)
    with pytest.raises(DataError) as caught:
        next(source)
    assert caught.value.where == "batch 1"


def test_labels_are_checked_too() -> None:
    with pytest.raises(DataError, match="NaN"):
        list(batches([(X, torch.full((4,), float("nan")))], CPU))


def test_finite_looks_at_floating_point_only() -> None:
    assert finite({"x": [torch.tensor([1, 2])], "y": (X,), "z": None})
    assert not finite([X, {"deep": torch.tensor(float("-inf"))}])

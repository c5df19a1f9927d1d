from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from secateur.errors import DataError, OptionError
from secateur.types.dataset import Dataset, Split, Stream


def split(n: int = 10) -> Split:
    return Split(torch.arange(n, dtype=torch.float32)[:, None], torch.arange(n))


@given(n=st.integers(1, 40), size=st.integers(1, 50), shuffle=st.booleans())
def test_every_sample_comes_once_with_its_label(n: int, size: int, shuffle: bool) -> None:
    batches = split(n).batches(size, shuffle=shuffle, seed=3)
    found = list(batches)
    assert len(found) == len(batches)
    assert [len(y) for _, y in found[:-1]] == [size] * (len(found) - 1)
    x, y = torch.cat([x for x, _ in found]), torch.cat([y for _, y in found])
    assert torch.equal(x[:, 0].long(), y)
    assert y.sort().values.tolist() == list(range(n))
    if not shuffle:
        assert y.tolist() == list(range(n))


def orders(seed: int | None, passes: int = 2) -> list[list[int]]:
    batches = split(50).batches(7, shuffle=True, seed=seed)
    return [torch.cat([y for _, y in batches]).tolist() for _ in range(passes)]


def test_a_seed_fixes_every_pass_and_each_pass_has_its_own_order() -> None:
    first, second = orders(seed=1)
    assert first != second
    assert orders(seed=1) == [first, second]
    assert first not in orders(seed=2)


def test_a_seeded_shuffle_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    orders(seed=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_seed_the_global_one_rules() -> None:
    torch.manual_seed(5)
    first = orders(seed=None)
    torch.manual_seed(5)
    assert orders(seed=None) == first


def test_two_iterations_at_once_do_not_disturb_each_other() -> None:
    batches = split(6).batches(2)
    pairs = [(a.tolist(), b.tolist()) for (_, a), (_, b) in zip(batches, batches, strict=True)]
    assert pairs == [([0, 1], [0, 1]), ([2, 3], [2, 3]), ([4, 5], [4, 5])]


def test_a_batch_of_nothing_is_refused() -> None:
    with pytest.raises(OptionError, match="1 or more"):
        split().batches(0)


X, Y = torch.zeros(3, 1, 2, 2), torch.tensor([0, 1, 1])


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X[:2], Y, "2 samples but 3 labels"),
        (X[:0], Y[:0], "no samples"),
        (X.double(), Y, "float64"),
        (X[:, 0, 0, 0], Y, "float32 \\(N, ...\\)"),
        (X, Y.float(), "not whole numbers"),
        (X, Y.int(), "int64 \\(N,\\)"),
        (X, Y[:, None], "int64 \\(N,\\)"),
        (X, Y - 1, "label -1 is negative"),
        (X.numpy(), Y, "must be tensors"),
        (X + torch.tensor([0, float("nan"), 0])[:, None, None, None], Y, "first in sample 1"),
        (X + torch.tensor([0, 0, float("inf")])[:, None, None, None], Y, "first in sample 2"),
    ],
)
def test_a_split_checks_its_tensors(x: Tensor, y: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Split(x, y)


def test_infinities_that_cancel_are_found_and_huge_values_are_not_mistaken_for_them() -> None:
    infinity = float("inf")
    with pytest.raises(DataError, match="2 values are NaN or infinite"):
        Split(torch.tensor([[infinity], [-infinity], [0.0]]), Y)
    Split(torch.full((3, 1), torch.finfo(torch.float32).max), Y)


def generate() -> Iterator[tuple[Tensor, Tensor]]:
    yield X, Y
    yield X[:1], Y[:1].int()


@pytest.mark.parametrize(
    "source",
    [
        list(generate()),
        generate,
        DataLoader(TensorDataset(torch.zeros(4, 1), torch.tensor([0, 1, 1, 1])), batch_size=3),
    ],
    ids=["list", "function", "DataLoader"],
)
def test_a_stream_is_read_as_often_as_wanted(source: object) -> None:
    stream = Stream(source)  # type: ignore[arg-type]
    assert stream.batches(99, shuffle=True, seed=0) is stream
    for _ in range(2):
        batches = list(stream)
        assert [len(y) for _, y in batches] == [3, 1]
        assert all(y.dtype == torch.int64 for _, y in batches)


def test_a_stream_is_lazy() -> None:
    read = 0

    def count() -> Iterator[tuple[Tensor, Tensor]]:
        nonlocal read
        for _ in range(1000):
            read += 1
            yield X, Y

    stream = Stream(count)
    assert read == 0
    next(iter(stream))
    assert read == 1


def test_a_one_shot_generator_is_refused_before_it_is_read() -> None:
    with pytest.raises(DataError, match="only once") as caught:
        Stream(generate(), "net.py:data, train part")
    assert caught.value.where == "net.py:data, train part"
    assert "function" in caught.value.hint or "the function" in str(caught.value)


def test_a_function_that_returns_one_iterator_again_and_again_is_found_out() -> None:
    used = generate()
    stream = Stream(lambda: used)
    list(stream)
    with pytest.raises(DataError, match="fresh iterator"):
        list(stream)


def test_what_gives_no_batches_is_refused() -> None:
    with pytest.raises(DataError, match="a int gives no batches"):
        Stream(7)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="gave no batches"):
        list(Stream([]))


def dataset(**changes: object) -> Dataset:
    fields: dict[str, object] = {"name": "d", "train": split(4), "test": split(4)}
    return Dataset(**(fields | {"classes": ("a", "b", "c", "d")} | changes))  # type: ignore[arg-type]


def test_a_data_set_checks_that_its_parts_fit() -> None:
    dataset()
    dataset(train=Stream([(X, Y)]))
    with pytest.raises(DataError, match="not list"):
        dataset(train=[(X, Y)])
    with pytest.raises(DataError, match="label 4 has no name"):
        dataset(test=split(5))
    with pytest.raises(DataError, match="train samples are"):
        dataset(test=Split(X, Y), classes=())

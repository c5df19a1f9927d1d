from __future__ import annotations

from collections import namedtuple
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from secateur.errors import DataError
from secateur.types.call import batch_size, call, cloned, device_of, run, tensors, to


class Two(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a - b


A, B = torch.full((3, 2), 5.0), torch.full((3, 2), 2.0)


@pytest.mark.parametrize("example", [(A, B), [A, B], {"b": B, "a": A}])
def test_positional_and_keyword_arguments(example: object) -> None:
    assert torch.equal(call(Two(), example), A - B)


def test_one_tensor_is_the_only_argument() -> None:
    assert torch.equal(call(nn.ReLU(), -A), torch.zeros(3, 2))


def test_tensors_come_in_order_from_any_nesting() -> None:
    nested = {"x": [A, (B,)], "y": {"z": A}, "flag": True, "none": None}
    assert [id(t) for t in tensors(nested)] == [id(A), id(B), id(A)]


def test_to_moves_tensors_and_leaves_the_rest() -> None:
    Pair = namedtuple("Pair", "left right")
    index = torch.tensor([1, 2])
    moved = to({"x": (A, index), "flag": True, "pair": Pair(A, None)}, dtype=torch.float64)
    assert moved["x"][0].dtype == torch.float64
    assert moved["x"][1].dtype == torch.int64
    assert moved["flag"] is True
    assert isinstance(moved["pair"], Pair)
    assert isinstance(moved["x"], tuple)
    assert to([A], device="cpu")[0] is A


def test_batch_size_is_the_first_dim_of_the_first_tensor() -> None:
    assert batch_size({"flag": 1, "x": [A], "y": torch.ones(7)}) == 3


@pytest.mark.parametrize("example", [torch.tensor(1.0), "text", [], {"x": 3}])
def test_batch_size_of_no_batch(example: object) -> None:
    with pytest.raises(DataError, match="holds no batch of samples"):
        batch_size(example)


@pytest.mark.parametrize("example", [torch.ones(2, 3), (A, B, A), {"c": A}])
def test_run_names_the_batch_and_the_shapes(example: object) -> None:
    class Strict(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ torch.ones(4, 4)

    with pytest.raises(DataError) as caught:
        run(Strict(), example, "batch 3")
    assert caught.value.where == "batch 3"
    assert str(tuple(next(tensors(example)).shape)) in caught.value.what


def test_device_of_a_model_without_tensors_is_the_cpu() -> None:
    assert device_of(nn.ReLU()) == torch.device("cpu")
    assert device_of(nn.Linear(1, 1, device="meta")) == torch.device("meta")
    assert device_of(nn.BatchNorm1d(2, affine=False, device="meta")) == torch.device("meta")


class Pair(NamedTuple):
    a: Tensor
    b: list[Tensor]


def test_a_clone_has_tensors_of_its_own() -> None:
    x = torch.zeros(2, requires_grad=True)
    for example in (x, (x, 3), [x], {"x": x, "n": {"y": [x]}}, Pair(x, [x])):
        copied = cloned(example)

        assert type(copied) is type(example)
        for tensor in tensors(copied):
            assert tensor is not x
            assert tensor.data_ptr() != x.data_ptr()
            assert torch.equal(tensor, x)
            assert not tensor.requires_grad
    assert cloned((x, 3))[1] == 3
    assert cloned("text") == "text"

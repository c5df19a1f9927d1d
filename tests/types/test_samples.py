from __future__ import annotations

from typing import Any

import pytest
import torch

from secateur.errors import DataError
from secateur.types.samples import check_batch

X, Y = torch.zeros(2, 3), torch.tensor([0, 1])
NAN = torch.tensor([[0.0], [float("nan")]])


@pytest.mark.parametrize(
    "x", [X, X.half(), torch.zeros(2, dtype=torch.int64), (X, X), {"ids": X, "deep": [X]}]
)
def test_inputs_of_any_build_pass(x: Any) -> None:
    got, labels = check_batch([x, Y.to(torch.uint8)])
    assert got is x
    assert labels.dtype == torch.int64
    assert labels.tolist() == [0, 1]


def test_labels_may_be_images() -> None:
    check_batch((torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.int64)))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (X, "a batch is a Tensor, not a pair"),
        ((X,), "a batch is a tuple, not a pair"),
        ((X, Y, Y), "not a pair"),
        ((X.numpy(), Y), "holds ndarray and Tensor"),
        ((X, [0, 1]), "holds Tensor and list"),
        (("a", Y), "holds str"),
        (({}, Y), "holds dict"),
        ((X, Y.float()), "not whole numbers"),
        ((X, Y.bool()), "not whole numbers"),
        ((X, -Y), "label -1 is negative"),
        ((X[:0], Y[:0]), "no samples"),
        ((X, Y[:1]), "2 samples but 1 labels"),
        (((X, X[:1]), Y), "1 samples but 2 labels"),
        ((NAN, Y), "first in sample 1"),
        (({"a": X, "b": NAN}, Y), "first in sample 1"),
    ],
)
def test_a_batch_that_is_none_is_refused_with_its_place(batch: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        check_batch(batch, where="net.py:data, batch 3")
    assert caught.value.where == "net.py:data, batch 3"

"""Samples at the door, and losses of single samples."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.compose.pool import Pool, checked_loss, sample_losses
from secateur.errors import DataError

CPU = torch.device("cpu")


def test_a_batch_is_rows_of_every_tensor() -> None:
    x = (torch.arange(12).reshape(6, 2), {"mask": torch.arange(6)})
    pool = Pool(x, torch.arange(6))
    (first, rest), y = pool.batch(torch.tensor([4, 1]), CPU)
    assert len(pool) == 6
    assert first.tolist() == [[8, 9], [2, 3]]
    assert rest["mask"].tolist() == y.tolist() == [4, 1]


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (torch.ones(3, 2), None),
        (torch.ones(3, 2), [0, 1, 2]),
        (torch.ones(0, 2), torch.ones(0)),
        (torch.ones(3, 2), torch.ones(2)),
        (torch.ones(3, 2), torch.tensor(1)),
        ((torch.ones(3), torch.ones(2)), torch.ones(3)),
        (torch.full((3, 2), torch.nan), torch.ones(3)),
        (torch.ones(3, 2), torch.tensor([0.0, 1.0, torch.inf])),
        ("images", torch.ones(3)),
    ],
)
def test_what_cannot_be_measured_on_is_refused(x: Any, y: Any) -> None:
    with pytest.raises(DataError):
        Pool(x, y)


def own(output: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(output, y)


@pytest.mark.parametrize("loss", [F.cross_entropy, nn.CrossEntropyLoss(), own])
def test_losses_of_samples_are_those_of_batches_of_one(loss: Any) -> None:
    output, y = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    expected = [float(F.cross_entropy(output[i : i + 1], y[i : i + 1])) for i in range(5)]
    found = sample_losses(output, y, loss, "here")
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(expected, rel=1e-6)


def test_a_reduction_that_gives_something_else_is_not_trusted() -> None:
    def loss(output: Tensor, y: Tensor, reduction: str = "mean") -> Tensor:
        return F.mse_loss(output, y, reduction=reduction)  # "none" is (N, 2)

    output, y = torch.randn(4, 2), torch.randn(4, 2)
    expected = (output - y).square().mean(1)
    assert torch.allclose(sample_losses(output, y, loss, "here").float(), expected)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_losses_must_be_finite(bad: float) -> None:
    def loss(output: Tensor, y: Tensor) -> Tensor:
        return output.sum() * bad

    with pytest.raises(DataError, match="here"):
        sample_losses(torch.ones(2, 2), torch.ones(2), loss, "here")
    with pytest.raises(DataError, match="here"):
        checked_loss(torch.ones(2, 2), torch.ones(2), loss, "here")


def test_a_loss_that_cannot_be_computed_says_where() -> None:
    with pytest.raises(DataError, match="here"):
        sample_losses(torch.ones(2, 3), torch.tensor([0, 9]), lambda o, y: o[y].sum(), "here")

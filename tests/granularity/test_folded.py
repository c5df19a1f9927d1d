"""Samples that lie one after the other, or do not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from secateur.granularity.folded import folded


class Rows(nn.Module):
    """(samples, positions, 3) seen as (rows, 3)."""

    def __init__(self, order: str) -> None:
        super().__init__()
        self.order, self.linear = order, nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        if self.order == "positions":
            x = x.transpose(0, 1)
        if self.order == "mixed":
            x = x + x.roll(1, 0)
        return self.linear(x if self.order == "apart" else x.flatten(0, 1))


@pytest.mark.parametrize(
    ("order", "samples", "found"),
    [
        ("samples", 5, True),
        ("samples", 2, True),
        ("samples", 1, False),  # one sample shows nothing
        ("positions", 5, False),
        ("mixed", 5, False),
        ("apart", 5, False),  # nothing is folded
    ],
)
def test_which_rows_are_whose(order: str, samples: int, found: bool) -> None:
    x = torch.randn(samples, 7, 3)
    assert (folded(Rows(order), x, ["linear"]) == {"linear"}) is found


def test_samples_that_are_all_alike_show_nothing() -> None:
    x = torch.randn(1, 7, 3).expand(4, -1, -1)
    assert folded(Rows("samples"), x, ["linear"]) == set()


def test_the_network_is_left_as_it_was() -> None:
    model = Rows("samples").train()
    folded(model, torch.randn(4, 7, 3), ["linear"])
    assert model.training
    assert not model.linear._forward_hooks

"""Which linear layers a network chooses by, and how many it chooses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from secateur.trace.routers import Router, routed
from tests import mixtures


class By(nn.Module):
    """Does something with what a Linear layer says."""

    def __init__(self, act: object, k: int = 3) -> None:
        super().__init__()
        self.said, self.out, self.act, self.k = nn.Linear(3, 5), nn.Linear(3, 2), act, k

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x) * self.act(self.said(x), self.k).float().mean()


def _routers(model: nn.Module) -> list[Router]:
    return list(routed(model, torch.randn(4, 3)).routers)


@pytest.mark.parametrize(
    ("act", "least"),
    [
        (lambda said, k: said.softmax(-1), 1),
        (lambda said, k: said.softmax(-1).topk(k).values, 3),
        (lambda said, k: said.topk(k).values.softmax(-1), 3),
        (lambda said, k: said.argmax(-1), 1),
        (lambda said, k: said.max(-1).values, 1),
        (lambda said, k: said.sort(-1).values[:, 0], 1),
        (lambda said, k: torch.cat([said.topk(1).values, said.sigmoid().topk(2).values], -1), 1),
    ],
)
def test_ways_to_choose(act: object, least: int) -> None:
    (router,) = _routers(By(act))
    assert (router.module, router.size, router.least.units) == ("said", 5, least)
    assert router.rows == (("said.weight", 0), ("said.bias", 0))


@pytest.mark.parametrize(
    "act",
    [
        lambda said, k: said.sigmoid(),
        lambda said, k: said.softmax(0),  # over samples
        lambda said, k: said.topk(2, dim=0).values,
        lambda said, k: (said @ said.T).softmax(-1),  # attention
    ],
)
def test_what_is_no_choice(act: object) -> None:
    assert not _routers(By(act))


def test_it_names_the_place_and_the_attribute() -> None:
    (router,) = _routers(By(lambda said, k: said.topk(k).values))
    assert router.least.why.startswith("3 are chosen at once by topk at (test_routers.py:")
    assert router.least.why.endswith("(k)")
    (router,) = _routers(By(lambda said, k: said.topk(2).values))
    assert router.least.why.endswith(")")
    assert not router.least.why.endswith("(k)")


def test_what_is_added_belongs_to_the_rows() -> None:
    model = mixtures.net(mixtures.Corrected(), mixtures.Stacked())
    first, second = _routers(model)
    assert first.rows == (
        ("mixtures.0.gate.linear.weight", 0),
        ("mixtures.0.gate.correction", 0),
    )
    assert {name for name, dim in second.rows if dim == 0} == {
        f"mixtures.1.{name}" for name in ("router.weight", "router.bias", "up", "bias", "down")
    }

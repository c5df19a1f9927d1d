"""What layers take under masks, against a plain sum over the layers of the network that was cut."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import secateur as sec
from secateur.cost import Placed, Prices, Surface, placed, points
from tests.handmade import channels, example, net

MODEL, EXAMPLE = net(32, 48), example()
GROUPS = channels(MODEL)


def cost(one: Placed, outs: int, ins: int) -> float:
    """Straight lines in both widths, of which the table's own interpolation is exact."""
    return 1e-6 * math.prod(one.layer.size[1:]) * (5.0 + outs * ins)


def table() -> Prices:
    return Prices(
        tuple(
            (one, Surface(one.outs, one.ins, {p: cost(one, *p) for p in points(one.outs, one.ins)}))
            for one in placed(MODEL, EXAMPLE)
        )
    )


@settings(max_examples=20)
@given(st.integers(0, 1000), st.floats(0.4, 0.9))
def test_as_the_cut_network_has_it(seed: int, share: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    scores = sec.Scores({"a": {g.name: torch.rand(g.size, generator=draw) for g in GROUPS}})
    plan = sec.allocate(GROUPS, scores, sec.Ranked("a", floor=0.4), sec.params(max(share, 0.5)))
    small = sec.shrink(MODEL, plan)
    plain = sum(cost(one, one.outs, one.ins) for one in placed(small, EXAMPLE))
    assert table().seconds(GROUPS, plan.masks) == pytest.approx(plain)
    dense = sum(cost(one, one.outs, one.ins) for one in placed(MODEL, EXAMPLE))
    assert table().seconds(GROUPS, {}) == pytest.approx(dense)

"""Law 7 for what a solver is told: polynomials of levels count as the groups count."""

from __future__ import annotations

import random
from math import prod

import pytest
import torch

import secateur as sec
from secateur.allocate.forms import FORMS, Product
from secateur.allocate.goals import goals
from secateur.allocate.levels import Levels, levels
from tests.laws.removal import Prepared


def _value(products: list[Product], chosen: dict[str, int]) -> float:
    return sum(
        product.times
        * prod(
            factor.constant + sum(float(stays[chosen[g]]) for g, stays in factor.parts.items())
            for factor in product.factors
        )
        for product in products
    )


def _room(groups: sec.Groups, seed: int) -> dict[str, Levels]:
    draw = torch.Generator().manual_seed(seed)
    return {
        group.name: levels(
            group, torch.rand(group.size, generator=draw), floor=1, round_to=1, most=6
        )
        for group in groups
    }


def _shared(groups: sec.Groups) -> bool:
    """Whether some index belongs to units of two groups: its count is then an upper bound."""
    parts = [[unit_of for _, unit_of in extent.parts] for extent in groups.extents]
    by_dims: dict[tuple[str, tuple[int, ...]], list[torch.Tensor]] = {}
    for group in groups:
        for member in group.members:
            by_dims.setdefault((member.name, member.dims), []).append(member.unit_of)
    return any(
        bool((torch.stack([unit_of >= 0 for unit_of in some]).sum(0) > 1).any())
        for some in (*parts, *by_dims.values())
        if len(some) > 1
    )


@pytest.mark.parametrize("quantity", sorted(FORMS))
def test_forms_count_what_masks_leave(prepared: Prepared, quantity: str) -> None:
    groups = prepared.groups
    if not len(groups):
        pytest.skip("nothing is free: see test_reach")
    room = _room(groups, prepared.seed)
    products, (goal,) = FORMS[quantity](groups, room, {}), goals(groups, f"{quantity}=0.5")
    draw = random.Random(prepared.seed)
    for _ in range(4):
        chosen = {name: draw.randrange(len(one)) for name, one in room.items()}
        counted = goal.count({name: one.mask(chosen[name]) for name, one in room.items()})
        value = _value(products, chosen)
        assert value >= counted - 1e-6 * goal.dense
        if not _shared(groups):
            assert value == pytest.approx(counted, rel=1e-9)

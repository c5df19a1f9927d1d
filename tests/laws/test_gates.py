"""A network with gates does what the masked one does: masking where units are read is enough."""

from __future__ import annotations

import pytest
import torch

import secateur as sec
from secateur.errors import ModelError
from secateur.learn import Gated, gate
from tests.laws.removal import TOLERANCE, Prepared
from tests.zoo.outputs import difference, floats, run


def _gated(
    prepared: Prepared, keep: dict[str, int], shown: bool
) -> tuple[ModelError | None, Gated | None]:
    example = prepared.example if shown else None
    try:
        made = gate(prepared.model, prepared.groups, keep, example=example, seed=prepared.seed)
    except ModelError as error:
        return error, None
    return None, made


@pytest.mark.parametrize("shown", [True, False], ids=["shown", "everywhere"])
def test_gated_is_masked(prepared: Prepared, shown: bool) -> None:
    keep = {group.name: (group.size + 1) // 2 for group in prepared.losing()}
    if not keep:
        pytest.skip("nothing is free: see test_reach")
    before = {name: tensor.clone() for name, tensor in prepared.model.state_dict().items()}
    refused, gated = _gated(prepared, keep, shown)
    if gated is None:
        assert refused is not None
        assert refused.where  # a parametrised or fused weight, or a bare buffer, named
        assert refused.hint
        return
    gated.model.eval()
    plan = gated.plan()

    found = floats(run(gated.model, prepared.example))
    with sec.masked(prepared.model, plan):
        masked = floats(run(prepared.model, prepared.example))

    assert {n: int(m.sum()) for n, m in plan.masks.items() if n in keep} == keep
    after = prepared.model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    if not any(group.declared for group in prepared.losing()):
        scale = [torch.maximum(a.abs(), b.abs()) for a, b in zip(found, masked, strict=True)]
        assert difference(found, masked, scale) <= TOLERANCE
    plain = floats(run(gated.plain(), prepared.example))
    dense = floats(run(prepared.model, prepared.example))
    assert all(torch.equal(a, b) for a, b in zip(plain, dense, strict=True))

"""Closing gates, and opening them again."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

import secateur as sec
from secateur.errors import PlanError
from secateur.mask.gates import low
from tests import mixtures

X = torch.randn(9, 3)


def _plan(model: mixtures.Net, *kept: int) -> sec.Plan:
    groups = sec.groups(model, X, sec.Experts())
    masks = {g.name: torch.zeros(g.size, dtype=torch.bool) for g in groups}
    for mask in masks.values():
        mask[list(kept)] = True
    return sec.Plan(groups, masks)


def test_who_is_masked_is_not_chosen() -> None:
    model = mixtures.net(mixtures.Sparse())
    plan = _plan(model, 0, 3)
    ran: list[int] = []
    for number, expert in enumerate(model.mixtures[0].experts):
        expert.register_forward_hook(lambda *_, number=number: ran.append(number))
    with sec.masked(model, plan):
        model(X)
    assert set(ran) == {0, 3}
    ran.clear()
    model(X)
    assert set(ran) - {0, 3}


@pytest.mark.parametrize("kind", [mixtures.Sparse, mixtures.Corrected])
def test_leaving_restores_everything(kind: type[torch.nn.Module]) -> None:
    model = mixtures.net(kind())
    plan = _plan(model, 0, 1)
    before, out = copy.deepcopy(model.state_dict()), model(X)
    with sec.masked(model, plan):
        assert not torch.allclose(model(X), out)
    assert torch.equal(model(X), out)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_what_corrects_the_choice_is_set_low_too() -> None:
    model = mixtures.net(mixtures.Corrected())
    plan = _plan(model, 0, 1)
    with sec.masked(model, plan):
        correction = model.mixtures[0].gate.correction.clone()
    assert (correction[2:] == low(torch.float32)).all()
    assert torch.equal(correction[:2], model.mixtures[0].gate.correction[:2])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_low_is_finite_and_its_share_is_nothing(dtype: torch.dtype) -> None:
    logits = torch.tensor([0.0, low(dtype), 5.0], dtype=dtype)
    assert logits.isfinite().all()
    assert (logits + logits).isfinite().all()
    assert logits.softmax(0)[1] == 0


def test_a_gate_that_is_not_there() -> None:
    model = mixtures.net(mixtures.Sparse())
    plan = _plan(model, 0, 1)
    (group,) = plan.groups
    wrong = sec.Plan(replace(plan.groups, groups=(replace(group, gate="nowhere"),)), plan.masks)
    with pytest.raises(PlanError, match="gate that this network lacks"), sec.masked(model, wrong):
        pass
    assert not model.mixtures[0].router._forward_hooks

from __future__ import annotations

import pytest
import torch
from torch import nn

from secateur.errors import PlanError
from secateur.mask.check import check_fits, named_tensors
from secateur.types import Plan
from tests import handmade


@pytest.fixture
def plan() -> Plan:
    groups = handmade.channels(handmade.Net())
    return Plan(groups, {g.name: torch.arange(g.size) > 0 for g in groups})


def test_the_network_it_was_made_for_fits(plan: Plan) -> None:
    check_fits(handmade.Net(), plan)
    check_fits(handmade.Net().half(), plan)


def test_another_width(plan: Plan) -> None:
    with pytest.raises(PlanError) as caught:
        check_fits(handmade.Net(first=7), plan)

    assert caught.value.where == "conv1.weight"
    assert "(6, 3, 3, 3)" in caught.value.what
    assert "(7, 3, 3, 3)" in caught.value.what
    assert "already shrunk" in caught.value.hint


def test_a_tensor_too_few(plan: Plan) -> None:
    model = handmade.Net()
    model.conv2.bias = None

    with pytest.raises(PlanError, match="lacks") as caught:
        check_fits(model, plan)
    assert caught.value.where == "conv2.bias"


@pytest.mark.parametrize("kind", ["parameter", "buffer"])
def test_a_tensor_too_many(plan: Plan, kind: str) -> None:
    model = handmade.Net()
    if kind == "parameter":
        model.extra = nn.Parameter(torch.zeros(3))
    else:
        model.register_buffer("extra", torch.zeros(3), persistent=False)

    with pytest.raises(PlanError, match="does not know") as caught:
        check_fits(model, plan)
    assert caught.value.where == "extra"


def test_the_same_layers_in_another_module(plan: Plan) -> None:
    with pytest.raises(PlanError) as caught:
        check_fits(nn.Sequential(handmade.Net()), plan)

    assert caught.value.where == "conv1.weight"


def test_shared_tensors_have_their_first_name() -> None:
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    model["b"].weight = model["a"].weight
    model.register_buffer("count", torch.zeros(()))

    assert list(named_tensors(model)) == ["a.weight", "a.bias", "b.bias", "count"]

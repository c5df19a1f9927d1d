"""Modules that are alike, and parameters that several modules hold."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from secateur.granularity.alike import holders, unlike


def _list(*modules: nn.Module) -> nn.Module:
    return nn.ModuleDict({"a": nn.ModuleList(modules)})


@pytest.mark.parametrize(
    ("second", "why"),
    [
        (nn.Linear(2, 3), ""),
        (nn.Linear(2, 4), "a.1.weight has shape (4, 2), a.0.weight (3, 2)"),
        (nn.Linear(2, 3, bias=False), "a.0 has bias of its own, a.1 not"),
        (nn.BatchNorm1d(3), "a.1 has num_batches_tracked of its own, a.0 not"),
    ],
)
def test_what_tells_them_apart(second: nn.Module, why: str) -> None:
    found = unlike(_list(nn.Linear(2, 3), second), ["a.0", "a.1"])
    assert found.endswith(why)
    assert bool(found) is bool(why)


def test_the_same_module_twice_shares_its_tensors() -> None:
    one = nn.Linear(2, 3)
    assert "share tensors" in unlike(_list(one, one), ["a.0", "a.1"])


def test_modules_without_tensors() -> None:
    assert unlike(_list(nn.ReLU(), nn.ReLU()), ["a.0", "a.1"]) == "a.0 holds no tensor of its own"


def test_who_holds_a_parameter() -> None:
    one, other = nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2))
    model = nn.ModuleDict({"one": one, "again": one, "other": other})
    assert holders(model, one[0].weight) == ["one.0"]
    other[0].weight = one[0].weight
    assert holders(model, one[0].weight) == ["one.0", "other.0"]
    other[0] = one[0]
    assert holders(model, one[0].weight) == ["one.0", "other.0"]
    assert holders(model, nn.Parameter(torch.ones(1))) == []

"""k of every row from budgets."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import secateur as sec
from secateur.allocate import goals
from secateur.errors import BudgetError, PlanError
from secateur.learn import Usual
from secateur.recipes.shares import units_per_row
from secateur.types.budget import parse

X = torch.randn(2, 3, 8, 8)


CASES = [
    (sec.Channels(), "units=0.5"),
    (sec.Channels(), "macs=0.4"),
    (sec.Channels(), "params=0.6"),
    (sec.Kernels(), "units=0.5"),
    (sec.Kernels(), "units=0.31"),
    (sec.Kernels(), "macs=0.4"),
    (sec.Weights(), "units=0.5"),
    (sec.Weights(), "units=0.31"),
    (sec.Weights(), "params=0.6"),
]


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 10, 3), nn.ReLU(), nn.Conv2d(10, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 5)
    ).eval()  # fmt: skip


def left(groups: sec.Groups, k: dict[str, int]) -> dict[str, torch.Tensor]:
    masks = {}
    for group in groups:
        masks[group.name] = torch.zeros(group.size, dtype=torch.bool)
        masks[group.name][Usual().of(group)[:, : k[group.name]].flatten()] = True
    return masks


@pytest.mark.parametrize(("granularity", "budget"), CASES)
def test_the_budget_is_met_and_one_unit_a_row_more_would_miss_it(
    granularity: object, budget: str
) -> None:
    groups = sec.groups(net(), X, granularity)  # type: ignore[arg-type]
    (wanted,) = goals(groups, budget)
    k = units_per_row(groups, Usual(), (parse(budget),))
    assert wanted.met(left(groups, k))
    for name, laid in ((group.name, Usual().of(group)) for group in groups):
        assert 1 <= k[name] <= laid.shape[1]
        if k[name] < laid.shape[1]:
            assert not wanted.met(left(groups, k | {name: k[name] + 1})), name


def test_blocks_need_no_budget() -> None:
    groups = sec.groups(net(), X, sec.Block(2, 5, dim=1))
    assert set(units_per_row(groups, Usual(), ()).values()) == {2}


def test_blocks_that_miss_the_budget_are_refused_at_once() -> None:
    groups = sec.groups(net(), X, sec.Block(2, 5, dim=1))
    with pytest.raises(BudgetError, match="cannot be met") as error:
        units_per_row(groups, Usual(), [sec.units(0.3)])
    assert error.value.nearest == pytest.approx(0.4)
    assert error.value.hint == "its pattern keeps 2 of 5"
    assert set(units_per_row(groups, Usual(), [sec.units(0.4)]).values()) == {2}


def test_what_cannot_be_met_says_how_near_it_came() -> None:
    groups = sec.groups(net(), X, sec.Channels())
    with pytest.raises(BudgetError, match="cannot be met") as error:
        units_per_row(groups, Usual(), (sec.units(0.01),))
    assert error.value.nearest == pytest.approx(2 / 26)
    with pytest.raises(BudgetError, match="nothing to stop at"):
        units_per_row(groups, Usual(), ())
    with pytest.raises(BudgetError, match="must be measured"):
        units_per_row(groups, Usual(), (sec.latency(0.5),))


def test_nothing_to_do_is_an_error() -> None:
    groups = sec.groups(net(), X, sec.Channels())
    with pytest.raises(PlanError, match="nothing needs to go"):
        units_per_row(groups, Usual(), (sec.units(1.0),))
    with pytest.raises(PlanError, match="no unit"):
        units_per_row(sec.Groups(()), Usual(), (sec.units(0.5),))

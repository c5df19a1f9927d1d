"""Recipes where methods go: by name, with options, through the whole pipeline."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import secateur as sec
from secateur import data as loading
from secateur.compose.objective import LossPerWeight
from secateur.errors import BudgetError, DataError, OptionError, UnknownNameError
from secateur.pipeline.methods import RECIPES, Method, find_method
from secateur.recipes import FlexRel, Oracle, Recipe
from secateur.saliency.lrp import GradTimesActivation, TrueLabel, ZPlus
from secateur.types.dataset import Dataset, Split


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
    ).eval()  # fmt: skip


def images() -> Dataset:
    whole = loading.load("demo:fashion-mini")
    return Dataset(
        "few", Split(whole.train.x[:400], whole.train.y[:400]),
        Split(whole.test.x[:100], whole.test.y[:100]),
    )  # fmt: skip


def test_options_that_are_values_are_given_by_name() -> None:
    found = find_method("flexrel?rule=zplus&normalisation=rank-network", seed=0)
    assert found == FlexRel(rule=ZPlus(), normalisation=sec.Rank(sec.Scope.NETWORK))
    found = find_method("oracle?objective=lossperweight", seed=0)
    assert isinstance(found, Oracle)
    assert found.objective == LossPerWeight()
    made = find_method("relevance?rule=gradtimesactivation&target=truelabel", seed=0)
    assert isinstance(made, Method)
    assert made.saliencies == (sec.Relevance(GradTimesActivation(), TrueLabel()),)
    with pytest.raises(UnknownNameError, match="zplus"):
        find_method("relevance?rule=z-plus", seed=0)


def test_every_recipe_is_found_by_name_with_its_options() -> None:
    for name in RECIPES:
        assert isinstance(find_method(name, seed=0), Recipe)
    assert find_method("flexrel?delta=0.25", seed=0) == FlexRel(delta=0.25)
    found = find_method("oracle?k=3&samples=32", seed=0)
    assert isinstance(found, Oracle)
    assert (found.k, found.samples) == (3, 32)
    with pytest.raises(OptionError):
        find_method("oracle?candidates=3", seed=0)


@pytest.mark.parametrize("granularity", ["weights", "kernels", "channels"])
def test_flexrel_prunes_at_every_granularity_and_says_why_this_delta(granularity: str) -> None:
    result = sec.prune(
        small(), data=images(), method="flexrel", granularity=granularity, to="units=0.5"
    )
    told = result.plan.about["recipe"]
    best = max(told["guidance"]["quality"])
    at = told["guidance"]["deltas"].index(told["delta"])
    assert told["guidance"]["quality"][at] == best
    assert len(told["guidance"]["deltas"]) == 11
    assert set(result.scores) == {"blend", "magnitude", "relevance"}
    assert result.measures["budgets"][0]["met"]


def test_a_given_delta_takes_no_guidance() -> None:
    result = sec.prune(small(), data=images(), method="flexrel?delta=0", to="units=0.5")
    assert result.plan.about["recipe"] == {"name": "flexrel", "delta": 0}
    plain = sec.prune(
        small(), data=images(), method="magnitude", allocator="uniform", to="units=0.5"
    )
    for name, mask in plain.plan.masks.items():
        assert torch.equal(result.plan.masks[name], mask)


def test_the_oracle_meets_the_budget() -> None:
    result = sec.prune(
        small(), data=images(), method="oracle?k=3&samples=64&scored=64", to="params=0.8"
    )
    (budget,) = result.measures["budgets"]
    assert budget["met"]
    assert next(iter(result.scores)) == "oracle"


@pytest.mark.parametrize("name", RECIPES)
def test_what_a_recipe_decides_by_itself_cannot_be_chosen(name: str) -> None:
    with pytest.raises(OptionError, match="brings its own allocator"):
        sec.prune(small(), data=images(), method=name, allocator="uniform")
    with pytest.raises(OptionError, match="brings its own allocator"):
        sec.prune(small(), data=images(), method=name, floor=0.1)


@pytest.mark.parametrize("name", RECIPES)
def test_a_budget_out_of_reach_is_said_before_anything_long(name: str) -> None:
    with pytest.raises(BudgetError) as caught:
        sec.prune(small(), data=images(), method=name, to="params=0.0001")
    assert caught.value.nearest is not None


@pytest.mark.parametrize("name", RECIPES)
def test_without_data_it_says_so(name: str) -> None:
    with pytest.raises(DataError, match="cannot be scored without data"):
        sec.prune(small(), torch.randn(2, 1, 28, 28), method=name, to="params=0.8")
    with pytest.raises(BudgetError, match="nothing to stop at"):
        sec.prune(small(), data=images(), method=name, to=None)

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

import secateur as sec
from secateur.saliency import score
from secateur.saliency.mean_squared_weights import MeanSquaredWeights
from secateur.types import Group
from tests.handmade import channels, net
from tests.saliency.cases import case, cases, close, filters_of, slices, tensor_of


def plain(model: nn.Module, group: Group) -> list[float]:
    """The slow twin: each weight is asked whether its position is used by any filter."""
    found = []
    for parts in filters_of(model, group):
        total, count = 0.0, 0
        for member, part in parts:
            others = [other for _, other in slices(tensor_of(model, member.name), member)]
            for at in itertools.product(*map(range, part.shape)):
                total += float(part[at]) ** 2
                count += any(float(other[at]) != 0 for other in others)
        found.append(total / count)
    return found


@pytest.mark.parametrize(
    ("name", "kind"),
    cases(("resnext", "residual_over_concat", "transposed_conv"), ("channel", "kernel")),
)
def test_it_agrees_with_the_plain_twin(name: str, kind: str) -> None:
    made = case(name, kind)
    found = score(made.model, made.groups, None, MeanSquaredWeights())["meansquaredweights"]
    for group in made.groups:
        close(found[group.name], plain(made.model, group))


@pytest.mark.parametrize(("name", "kind"), cases(("resnext", "lstm"), ("weight", "block")))
def test_of_a_single_weight_it_is_the_square(name: str, kind: str) -> None:
    made = case(name, kind)
    found = score(made.model, made.groups, None, MeanSquaredWeights())["meansquaredweights"]
    for group in made.groups:
        (member,) = group.members
        weight = tensor_of(made.model, member.name).flatten()
        torch.testing.assert_close(found[group.name][member.unit_of], weight.square().float())


def test_only_active_inputs_count() -> None:
    """Equation 1 to the letter, before and after two of six channels are masked."""
    model = net()
    groups = channels(model)
    weight = model.conv2.weight.detach().double()
    before = score(model, groups, None, MeanSquaredWeights())["meansquaredweights"]["conv2"]
    close(before, (weight.square().sum((1, 2, 3)) / (6 * 9)).tolist())
    masks = {group.name: torch.ones(group.size, dtype=torch.bool) for group in groups}
    masks["conv1"][[1, 4]] = False
    with sec.masked(model, sec.Plan(groups, masks)):
        after = score(model, groups, None, MeanSquaredWeights())["meansquaredweights"]
    close(after["conv2"], (weight[:, masks["conv1"]].square().sum((1, 2, 3)) / (4 * 9)).tolist())
    assert after["conv1"][[1, 4]].tolist() == [0, 0]
    assert bool((after["conv1"][masks["conv1"]] > 0).all())


def test_masked_and_cut_networks_score_alike() -> None:
    made = case("flatten_to_fc")
    masks = {g.name: torch.arange(g.size) % 3 != 0 for g in made.groups}
    plan = sec.Plan(made.groups, masks)
    small = sec.shrink(made.model, plan)
    fresh = sec.groups(small, made.inputs(), sec.Channels())
    cut = score(small, fresh, None, MeanSquaredWeights())["meansquaredweights"]
    with sec.masked(made.model, plan):
        masked = score(made.model, made.groups, None, MeanSquaredWeights())["meansquaredweights"]
    for name, mask in masks.items():
        torch.testing.assert_close(cut[name], masked[name][mask])


def test_a_layer_of_zeros_scores_zero() -> None:
    model = net()
    nn.init.zeros_(model.conv2.weight)
    found = score(model, channels(model), None, MeanSquaredWeights())["meansquaredweights"]
    assert found["conv2"].tolist() == [0.0] * 8

from __future__ import annotations

import torch

from secateur.saliency import Random, score
from secateur.types import Groups
from tests.handmade import channels, net


def test_the_seed_and_the_name_decide() -> None:
    model = net(8, 8)
    groups = channels(model)
    first = score(model, groups, None, Random())["random"]
    again = score(model, groups, None, Random(seed=0))["random"]
    other = score(model, groups, None, Random(seed=1))["random"]
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv1"], other["conv1"])
    assert not torch.equal(first["conv1"], first["conv2"])


def test_the_order_of_groups_does_not_matter() -> None:
    model = net()
    groups = channels(model)
    turned = Groups(groups.groups[::-1], shapes=groups.shapes, parameters=groups.parameters)
    here, there = (score(model, g, None, Random())["random"] for g in (groups, turned))
    assert all(torch.equal(here[name], there[name]) for name in here)


def test_torchs_generator_is_left_alone_and_scores_fill_the_unit_interval() -> None:
    model = net(500, 500)
    before = torch.get_rng_state()
    found = score(model, channels(model), None, Random(3))["random"]["conv1"]
    assert torch.equal(torch.get_rng_state(), before)
    assert 0 <= float(found.min()) < 0.02
    assert 0.98 < float(found.max()) < 1
    assert abs(float(found.mean()) - 0.5) < 0.06  # 4.6 standard errors of 500 uniform draws

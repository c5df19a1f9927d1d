from __future__ import annotations

import pytest
import torch
from torch import nn

from secateur.saliency import geometric_median, score
from secateur.saliency.geometric_median import GeometricMedian
from secateur.types import Group
from tests.handmade import channels, inside, net
from tests.saliency.cases import case, cases, close, filters_of, slices, tensor_of


def plain(model: nn.Module, group: Group) -> list[float]:
    """The slow twin: one pair of filters at a time."""
    return [
        sum(
            float((part - other).norm())
            for member, part in parts
            for _, other in slices(tensor_of(model, member.name), member)
        )
        for parts in filters_of(model, group)
    ]


@pytest.mark.parametrize(("name", "kind"), cases())
def test_it_agrees_with_the_plain_twin(name: str, kind: str) -> None:
    made = case(name, kind)
    found = score(made.model, made.groups, None, GeometricMedian())["geometricmedian"]
    for group in made.groups:
        if group.size <= 150:
            close(found[group.name], plain(made.model, group))


def test_distances_are_taken_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    model = net()
    groups = inside(model, "kernel")
    whole = score(model, groups, None, GeometricMedian())["geometricmedian"]
    monkeypatch.setattr(geometric_median, "_ENTRIES", 7)
    parts = score(model, groups, None, GeometricMedian())["geometricmedian"]
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name])


def test_the_middle_of_the_layer_scores_least_whatever_its_size() -> None:
    model = net()
    with torch.no_grad():
        model.conv2.weight += 5
        model.conv2.weight[3] = model.conv2.weight[[0, 1, 2, 4, 5, 6, 7]].mean(0)
    found = score(model, channels(model), None, GeometricMedian())["geometricmedian"]["conv2"]
    assert int(found.argmin()) == 3


def test_equal_filters_are_at_distance_zero() -> None:
    model = net()
    nn.init.constant_(model.conv2.weight, 0.1)
    for groups in (channels(model), inside(model, "kernel")):
        assert not score(model, groups, None, GeometricMedian())["geometricmedian"]["conv2"].any()

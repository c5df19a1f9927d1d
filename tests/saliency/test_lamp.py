from __future__ import annotations

import pytest
import torch
from torch import nn

from secateur.saliency import score
from secateur.saliency.lamp import LAMP
from secateur.types import Group
from tests.handmade import inside, net
from tests.saliency.cases import case, cases, close, filters_of


def plain(model: nn.Module, group: Group) -> list[float]:
    """The slow twin: compare every unit with every other."""
    squares = [
        sum(float(w) ** 2 for _, part in parts for w in part.flatten())
        for parts in filters_of(model, group)
    ]
    return [s / sum(other for other in squares if other >= s) for s in squares]


@pytest.mark.parametrize(("name", "kind"), cases())
def test_it_agrees_with_the_plain_twin(name: str, kind: str) -> None:
    made = case(name, kind)
    found = score(made.model, made.groups, None, LAMP())["lamp"]
    for group in made.groups:
        if group.size <= 300:
            close(found[group.name], plain(made.model, group))


def test_known_answers_with_ties_and_zeros() -> None:
    model = net()
    with torch.no_grad():
        flat = model.conv1.weight.view(-1)
        flat.zero_()
        flat[:4] = torch.tensor([3.0, -1.0, 1.0, 2.0])
    found = score(model, inside(model, "weight"), None, LAMP())["lamp"]["conv1"]
    close(found[:6], [1, 1 / 15, 1 / 15, 4 / 13, 0, 0])


def test_the_order_within_a_layer_is_that_of_magnitude_and_the_scale_does_not_matter() -> None:
    model = net()
    groups = inside(model, "weight")
    before = score(model, groups, None, LAMP())["lamp"]
    for group in groups:
        weight = model.get_parameter(group.members[0].name).detach().flatten()
        assert torch.equal(before[group.name].argsort(), weight.abs().argsort())
        assert before[group.name].max() == 1
    with torch.no_grad():
        model.fc.weight *= 16
    after = score(model, groups, None, LAMP())["lamp"]
    torch.testing.assert_close(after["fc"], before["fc"])


def test_a_layer_of_zeros_scores_zero() -> None:
    model = net()
    nn.init.zeros_(model.conv1.weight)
    assert not score(model, inside(model, "weight"), None, LAMP())["lamp"]["conv1"].any()

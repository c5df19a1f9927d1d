from __future__ import annotations

import pytest
import torch
from torch import Tensor

import secateur as sec
from secateur.saliency import score
from secateur.saliency.apoz import APoZ
from secateur.types import Group
from tests.handmade import data, example, net
from tests.saliency.cases import Case, case, close
from tests.saliency.places import NAMES, batch, outputs


def plain(made: Case, group: Group, x: Tensor, y: Tensor) -> list[float]:
    """The slow twin: count the zeros."""
    alive, count = [0] * group.size, [0] * group.size
    for out in outputs(made, group, x, y, first=False):
        alive[out.unit] += sum(a != 0 for a in out.a)
        count[out.unit] += len(out.a)
    return [a / c for a, c in zip(alive, count, strict=True)]


@pytest.mark.parametrize("name", NAMES)
def test_it_agrees_with_the_plain_twin(name: str) -> None:
    made = case(name)
    x, y = batch(made)
    halves = [(x[:2], y[:2]), (x[2:], y[2:])]
    found = score(made.model, made.groups, halves, APoZ())["apoz"]
    for group in made.groups:
        close(found[group.name], plain(made, group, x, y))


def test_a_dead_unit_scores_zero_and_one_that_always_fires_one() -> None:
    model = net()
    with torch.no_grad():
        model.conv2.weight[:2] = 0
        model.conv2.bias[:2] = torch.tensor([-1.0, 1.0])
    found = score(model, sec.groups(model, example()), data(), APoZ())["apoz"]["conv2"]
    assert found[:2].tolist() == [0, 1]
    assert bool(((found[2:] > 0) & (found[2:] < 1)).all())

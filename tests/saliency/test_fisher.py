from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import secateur as sec
from secateur.saliency import score
from secateur.saliency.fisher import Fisher
from secateur.types import Group
from tests.handmade import data, example, net
from tests.saliency.cases import Case, case, close
from tests.saliency.places import NAMES, batch, loss, outputs


def plain(made: Case, group: Group, x: Tensor, y: Tensor) -> list[float]:
    """The slow twin: one square a sample."""
    total, places = [0.0] * group.size, [0] * group.size
    for out in outputs(made, group, x, y, first=False):
        total[out.unit] += sum(a * g for a, g in zip(out.a, out.g, strict=True)) ** 2
        places[out.unit] += 1
    return [t / (2 * p) for t, p in zip(total, places, strict=True)]


@pytest.mark.parametrize("name", NAMES)
def test_it_agrees_with_the_plain_twin(name: str) -> None:
    made = case(name)
    x, y = batch(made)
    halves = [(x[:2], y[:2]), (x[2:], y[2:])]
    found = score(made.model, made.groups, halves, Fisher(), loss=loss)["fisher"]
    for group in made.groups:
        close(found[group.name], plain(made, group, x, y))


def test_it_is_half_the_mean_squared_gradient_of_a_gate() -> None:
    """Multiply each channel by a gate of one: the definition of Theis et al."""
    model = net().double().eval()
    groups = sec.groups(model, example().double())
    ((x, y),) = data([5])
    found = score(model, groups, [(x.double(), y)], Fisher(), loss=F.cross_entropy)["fisher"]
    squares = torch.zeros(8, dtype=torch.float64)
    for sample, label in zip(x.double(), y, strict=True):
        gate = torch.ones(8, 1, 1, dtype=torch.float64, requires_grad=True)
        hidden = F.relu(model.conv2(F.relu(model.bn(model.conv1(sample[None])))))
        value = F.cross_entropy(model.fc((hidden * gate).flatten(1)), label[None])
        squares += torch.autograd.grad(value, gate)[0].flatten().square()
    torch.testing.assert_close(found["conv2"], (squares / (2 * 5)).float())

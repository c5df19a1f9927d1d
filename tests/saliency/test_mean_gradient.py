from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import secateur as sec
from secateur.saliency import score
from secateur.saliency.mean_gradient import MeanGradient
from secateur.types import Group
from tests.handmade import data, example, net
from tests.saliency.cases import Case, case, close
from tests.saliency.places import NAMES, batch, loss, outputs


def plain(made: Case, group: Group, x: Tensor, y: Tensor) -> list[float]:
    """The slow twin: positions are summed, then the absolute value is taken."""
    total, count = [0.0] * group.size, [0] * group.size
    for out in outputs(made, group, x, y, first=True):
        total[out.unit] += abs(sum(out.g))
        count[out.unit] += len(out.g)
    return [t / c for t, c in zip(total, count, strict=True)]


@pytest.mark.parametrize("name", NAMES)
def test_it_agrees_with_the_plain_twin(name: str) -> None:
    made = case(name)
    x, y = batch(made)
    halves = [(x[:2], y[:2]), (x[2:], y[2:])]
    found = score(made.model, made.groups, halves, MeanGradient(), loss=loss)["meangradient"]
    for group in made.groups:
        close(found[group.name], plain(made, group, x, y))


def test_of_a_bias_it_is_the_gradient() -> None:
    """What shifts a whole map has the gradient summed over positions; with one sample, exactly."""
    model = net().double().eval()
    groups = sec.groups(model, example().double())
    ((x, y),) = data([1])
    x = x.double()
    found = score(model, groups, [(x, y)], MeanGradient(), loss=F.cross_entropy)["meangradient"]
    F.cross_entropy(model(x), y).backward()
    for name in ("conv1", "conv2"):
        expected = model.get_parameter(f"{name}.bias").grad.abs() / 16
        torch.testing.assert_close(found[name], expected.float())

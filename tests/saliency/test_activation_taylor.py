from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import secateur as sec
from secateur.saliency import Taylor, score
from secateur.saliency.activation_taylor import ActivationTaylor
from secateur.types import Group
from tests.handmade import data, example, net
from tests.saliency.cases import Case, case, close
from tests.saliency.places import NAMES, batch, loss, outputs


def plain(made: Case, group: Group, x: Tensor, y: Tensor) -> list[float]:
    """The slow twin: one product at a time."""
    total, count = [0.0] * group.size, [0] * group.size
    for out in outputs(made, group, x, y, first=False):
        total[out.unit] += abs(sum(a * g for a, g in zip(out.a, out.g, strict=True)))
        count[out.unit] += len(out.a)
    return [t / c for t, c in zip(total, count, strict=True)]


@pytest.mark.parametrize("name", NAMES)
def test_it_agrees_with_the_plain_twin(name: str) -> None:
    made = case(name)
    x, y = batch(made)
    halves = [(x[:2], y[:2]), (x[2:], y[2:])]
    found = score(made.model, made.groups, halves, ActivationTaylor(), loss=loss)[
        "activationtaylor"
    ]
    for group in made.groups:
        close(found[group.name], plain(made, group, x, y))


def test_of_one_sample_it_is_the_weight_form() -> None:
    """For convolution and ReLU, save for the divisor; batches of one sample are added."""
    model = net().double().eval()
    groups = sec.groups(model, example().double())
    samples = [(x.double(), y) for x, y in data([1, 1, 1])]
    found = score(model, groups, samples, ActivationTaylor(), loss=F.cross_entropy)
    weights = [score(model, groups, [s], Taylor(), loss=F.cross_entropy) for s in samples]
    expected = torch.stack([scores["taylor"]["conv2"] for scores in weights]).mean(0) / 16
    torch.testing.assert_close(found["activationtaylor"]["conv2"], expected)


def test_opposite_samples_do_not_cancel() -> None:
    model = net().eval()
    groups = sec.groups(model, example())
    ((x, _y),) = data([4])

    def odd(out: Tensor, y: Tensor) -> Tensor:
        return (out.sum(1) * y).mean()

    twice, signs = torch.cat([x, x]), torch.tensor([1.0] * 4 + [-1.0] * 4)
    found = score(model, groups, [(twice, signs)], [ActivationTaylor(), Taylor()], loss=odd)
    assert bool((found["activationtaylor"]["conv2"] > 0).all())
    assert bool((found["taylor"]["conv2"] < 1e-6).all())

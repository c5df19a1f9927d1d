from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
    own = {out.unit: len(out.a) for out in outputs(made, group, x, y, first=True)}
    for out in outputs(made, group, x, y, first=False):
        total[out.unit] += abs(sum(a * g for a, g in zip(out.a, out.g, strict=True)))
        count[out.unit] += own[out.unit]
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


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1)])
def test_pooling_behind_a_layer_changes_nothing(pool: nn.Module) -> None:
    """Sums of a * g are the same before and after it, and H * W are the layer's own."""
    torch.manual_seed(0)
    side = pool(torch.zeros(1, 1, 4, 4)).shape[-1]
    conv, head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * side * side, 5)
    model = nn.Sequential(conv, nn.ReLU(), pool, nn.Flatten(), head).double().eval()
    x, y = torch.randn(3, 3, 4, 4, dtype=torch.float64), torch.tensor([0, 3, 1])
    groups = sec.groups(model, x)
    found = score(model, groups, [(x, y)], ActivationTaylor(), loss=F.cross_entropy)
    a = conv(x).relu()
    loss = F.cross_entropy(head(pool(a).flatten(1)), y, reduction="sum")
    (g,) = torch.autograd.grad(loss, a)
    expected = (a * g).sum((2, 3)).abs().sum(0) / (3 * 4 * 4)
    torch.testing.assert_close(found["activationtaylor"]["0"], expected.detach().float())

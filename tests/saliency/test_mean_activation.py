from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import secateur as sec
from secateur.errors import ScoreError
from secateur.saliency import score
from secateur.saliency.mean_activation import MeanActivation
from secateur.types import Group
from tests.handmade import data, inside, net
from tests.saliency.cases import Case, case, close
from tests.saliency.places import NAMES, batch, outputs


def plain(made: Case, group: Group, x: Tensor, y: Tensor) -> list[float]:
    """The slow twin: one element at a time."""
    total, count = [0.0] * group.size, [0] * group.size
    for out in outputs(made, group, x, y, first=False):
        for a in out.a:
            total[out.unit] += abs(a)
            count[out.unit] += 1
    return [t / c for t, c in zip(total, count, strict=True)]


@pytest.mark.parametrize("name", NAMES)
def test_it_agrees_with_the_plain_twin(name: str) -> None:
    made = case(name)
    x, y = batch(made)
    found = score(made.model, made.groups, [x[:2], x[2:]], MeanActivation())["meanactivation"]
    for group in made.groups:
        close(found[group.name], plain(made, group, x, y))


class Block(nn.Module):
    """A residual block whose places are all modules."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.body = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6))
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(6 * 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.relu(self.body(x) + x)
        out: Tensor = self.head(x.flatten(1))
        return out


def test_it_is_seen_behind_the_activation_function_and_before_the_sum() -> None:
    model = Block().eval()
    x = torch.randn(4, 3, 4, 4)
    groups = sec.groups(model, x, sec.Channels())
    assert [group.name for group in groups] == ["stem.0"]
    found = score(model, groups, [x], MeanActivation())["meanactivation"]["stem.0"]
    with torch.no_grad():
        stem = model.stem(x)
        body = model.body(stem)
    expected = (stem.abs().mean((0, 2, 3)) + body.abs().mean((0, 2, 3))) / 2
    torch.testing.assert_close(found, expected)


def test_no_labels_and_no_loss_are_needed() -> None:
    model = Block().eval()
    groups = sec.groups(model, torch.randn(2, 3, 4, 4), sec.Channels())
    labelled = [(x, y) for x, y in data([3, 2])]
    with_labels = score(model, groups, labelled, MeanActivation())
    without = score(model, groups, [x for x, _ in labelled], MeanActivation())
    assert torch.equal(with_labels["meanactivation"]["stem.0"], without["meanactivation"]["stem.0"])


def test_single_weights_have_no_activation() -> None:
    model = net()
    with pytest.raises(ScoreError, match="no module returns") as caught:
        score(model, inside(model, "weight"), data(), MeanActivation())
    assert caught.value.where == "conv1"

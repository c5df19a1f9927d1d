from __future__ import annotations

from statistics import mean

import pytest
import torch
from torch import Tensor, nn

import secateur as sec
from secateur.errors import ScoreError
from secateur.saliency import score
from secateur.saliency.batch_norm_scale import BatchNormScale
from tests.saliency.cases import case, close

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def plain(model: nn.Module, group: sec.Group) -> list[float]:
    """The slow twin: it knows the layers by their class."""
    passed: list[list[float]] = [[] for _ in range(group.size)]
    for name, module in model.named_modules():
        if isinstance(module, NORMS) or "running_var" in dict(module.named_buffers(recurse=False)):
            for member in group.members:
                if member.name == f"{name}.weight":
                    for gain, unit in zip(
                        module.weight.tolist(), member.unit_of.tolist(), strict=True
                    ):
                        if unit >= 0:
                            passed[unit].append(abs(gain))
    return [mean(gains) for gains in passed]


@pytest.mark.parametrize("name", ["resnext", "densenet", "repvgg"])
def test_it_agrees_with_the_plain_twin(name: str) -> None:
    made = case(name)
    found = score(made.model, made.groups, None, BatchNormScale())["batchnormscale"]
    for group in made.groups:
        close(found[group.name], plain(made.model, group))


def test_frozen_norms_held_as_buffers_count() -> None:
    made = case("frozen_batch_norm")
    kept = sec.groups(made.model, made.inputs(), sec.Channels(keep=["last"]))
    found = score(made.model, kept, None, BatchNormScale())["batchnormscale"]["stem"]
    close(found, made.model.get_buffer("norm.weight").abs().tolist())


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("inverted_residual", "stem"),  # a chain without norm among others with one
        ("prelu_per_channel", "up"),  # a slope of one dim is no gain
        ("layer_normed", ""),
        ("group_normed", ""),
        ("buffer_as_scale", "up"),
    ],
)
def test_a_group_without_batch_norm_is_named(name: str, group: str) -> None:
    made = case(name)
    with pytest.raises(ScoreError, match="pass through no BatchNorm") as caught:
        score(made.model, made.groups, None, BatchNormScale())
    assert caught.value.where == (group or made.groups.groups[0].name)
    assert "Magnitude" in caught.value.hint


class Half(nn.Module):
    """Only four of ten channels pass through the norm."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.right, self.both = nn.Conv2d(3, 6, 1), nn.Conv2d(10, 10, 1)
        self.last = nn.Conv2d(10, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.left(x), self.right(x)], 1)
        out: Tensor = self.last(x + self.both(x)).mean((2, 3))
        return out


def test_a_part_without_batch_norm_is_counted() -> None:
    model = Half().eval()
    groups = sec.groups(model, torch.randn(2, 3, 4, 4), sec.Channels())
    with pytest.raises(ScoreError, match=r"of 8 channels pass through no BatchNorm"):
        score(model, groups, None, BatchNormScale())

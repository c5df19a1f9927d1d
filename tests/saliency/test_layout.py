"""Scoring with the channels last: the same scores, and the network as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur as sec
from secateur.saliency import collect
from secateur.saliency.layout import Layout, suited

X, Y = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 4


def mobile() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Conv2d(6, 8, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 4),
    ).eval()  # fmt: skip


def places(model: nn.Module) -> list[tuple[int, tuple[int, ...]]]:
    return [(p.data_ptr(), p.stride()) for p in model.parameters()]


class Viewing(nn.Module):
    """Its code holds for one layout only."""

    def __init__(self, *, backward: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc, self.backward = nn.Conv2d(3, 4, 3), nn.Linear(144, 4), backward

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = _Views.apply(x) if self.backward else x.view(len(x), -1).view_as(x)
        out: Tensor = self.fc(x.flatten(1))
        return out


class _Views(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        x.view(-1)
        return gradients[0]


@pytest.mark.parametrize("one", [False, True], ids=["as made", "one layer so already"])
def test_convolutions_run_with_the_channels_last(one: bool) -> None:
    model = mobile()
    if one:
        weight = model[0].weight
        weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    before, seen = places(model), []
    layout = suited(model, X)
    for layer in (model[0], model[3], model[6]):
        layer.register_forward_hook(lambda _m, _i, out: seen.append(out.stride(1)))
    with layout.running():
        model(X)
    assert seen == [1, 1, 1]
    assert places(model) == before


def test_weights_come_back_after_an_error() -> None:
    model = mobile()
    before = places(model)
    with pytest.raises(ZeroDivisionError), suited(model, X).running():
        raise ZeroDivisionError
    assert places(model) == before


@pytest.mark.parametrize("backward", [False, True])
def test_code_that_depends_on_the_layout_keeps_its_own(backward: bool) -> None:
    model = Viewing(backward=backward).eval()
    assert suited(model, X).weights == ()
    scores = sec.score(model, sec.groups(model, X), [(X, Y)], sec.Taylor(), loss=F.cross_entropy)
    assert scores["taylor"]["conv"].shape == (4,)


def test_nothing_to_lay_out() -> None:
    assert suited(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), X).weights == ()


def test_scores_are_those_of_the_usual_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    model = mobile()
    groups = sec.groups(model, X)
    every = [
        sec.Taylor(), sec.MeanActivation(), sec.APoZ(), sec.MeanGradient(), sec.ActivationTaylor(),
        sec.Fisher(), sec.BatchFisher(), sec.Reconstruction(), sec.Utilization(),
        sec.HessianDiagonal(), sec.Relevance(),
    ]  # fmt: skip

    def scores() -> sec.Scores:
        return sec.score(model, groups, [(X, Y)], every, loss=F.cross_entropy)

    last = scores()
    monkeypatch.setattr(collect, "suited", lambda *_: Layout())
    usual = scores()
    for name in usual:
        for group, values in usual[name].items():
            torch.testing.assert_close(last[name][group], values, rtol=1e-4, atol=1e-7)


def test_random_numbers_go_on_as_if_nothing_was_tried() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), _Noise(), nn.Flatten(), nn.Linear(144, 4)).eval()
    torch.manual_seed(3)
    suited(model, X)
    drawn = torch.rand(2)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(2))


class _Noise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand(())

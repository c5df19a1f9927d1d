"""Scoring with the channels last: the same scores, and the network as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur as sec
from secateur.saliency import layout
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


class Odd(nn.Module):
    """A convolution and a Linear, with something between or around them."""

    def __init__(self, odd: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(144, 4)
        self.odd, self.calls = odd, 0
        self.known: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        weight = self.conv.weight
        if self.odd == "strided":
            x = F.conv2d(x, torch.as_strided(weight, (4, 3, 3, 3), (27, 9, 3, 1)))
        elif self.odd == "kept":
            self.known = weight.detach() if self.known is None else self.known
            x = self.conv(x) + F.conv2d(x, self.known)
        elif self.odd == "written":
            weight.data.clamp_(-0.05, 0.05)
            x = self.conv(x)
        elif self.odd == "replaced":
            weight.data = weight.detach().sign()
            x = self.conv(x)
        elif self.odd == "sized":
            self.known = torch.zeros(len(x)) if self.known is None else self.known
            x = self.conv(x) + self.known.reshape(-1, 1, 1, 1)
        else:
            x = self.conv(x)
        if self.odd == "viewed":
            x = x.view(len(x), -1).view_as(x)
        elif self.odd == "viewed on the way back":
            x = _Views.apply(x)
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


def test_weights_come_back_after_an_error() -> None:
    model = mobile()
    before = places(model)
    with pytest.raises(ZeroDivisionError), suited(model, X).running():
        raise ZeroDivisionError
    assert places(model) == before


@pytest.mark.parametrize(
    "odd",
    ["viewed", "viewed on the way back", "strided", "kept", "written", "replaced"],
)
def test_code_that_sees_the_layout_keeps_its_own(odd: str) -> None:
    assert suited(Odd(odd).eval(), X).weights == ()
    assert suited(Odd("nothing").eval(), X).weights != ()


@pytest.mark.parametrize("odd", ["viewed", "strided", "sized", "nothing"])
def test_networks_see_every_batch_once(odd: str) -> None:
    model = Odd(odd).eval()
    groups = sec.groups(Odd("nothing").eval(), X)
    scores = sec.score(model, groups, [(X, Y)] * 3, sec.Taylor(), loss=F.cross_entropy)
    assert scores["taylor"]["conv"].shape == (4,)
    assert model.calls == 3


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
    monkeypatch.setattr(layout, "suited", lambda *_: Layout())
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


def test_the_first_batch_is_tried_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    tried, found = [], Layout()

    def trial(_model: nn.Module, example: Tensor) -> Layout:
        tried.append(example)
        return found

    monkeypatch.setattr(layout, "suited", trial)
    suits = layout.suits(mobile())
    batches = [X, X[:1], X + 1]
    assert not tried
    assert all(suits(batch) is found for batch in batches)
    assert len(tried) == 1
    assert tried[0] is X
    model = mobile()
    groups, asked = sec.groups(model, X), [sec.Utilization(), sec.Reconstruction()]
    data = [(X, Y), (X, Y)]
    sec.score(model, groups, data, asked, loss=F.cross_entropy, one_pass=False)
    assert len(tried) == 2

"""Scores fit one network, one granularity, one set of groups; anything else is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import secateur as sec
from secateur.errors import ScoreError
from secateur.granularity import Granularity
from secateur.pipeline.stamp import STAMP, fitting, stamp_of, stamped
from tests.pipeline.small import Net, net, part

EXAMPLE = part(1, seed=0).x


def _scores(model: nn.Module, granularity: Granularity, *, noted: bool = True) -> sec.Scores:
    groups = sec.groups(model, EXAMPLE, granularity)
    scores = sec.score(model, groups, None, sec.Magnitude())
    return stamped(scores, model, granularity, groups, EXAMPLE) if noted else scores


def _fit(scores: sec.Scores, model: nn.Module, granularity: Granularity) -> sec.Scores:
    groups = sec.groups(model, EXAMPLE, granularity)
    return fitting(scores, model, granularity, groups, EXAMPLE)


class Crossed(Net):
    """The same weights, but other layers that are added up."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu()
        return self.head((self.outer(self.inner(x).relu()) + x.flip(1)).mean((2, 3)))


def test_the_same_network_fits_again(tmp_path: Path) -> None:
    model = net()
    for granularity in (sec.Channels(), sec.Weights(), sec.Kernels(), sec.Block(1, 2)):
        scores = _scores(model, granularity)
        assert _fit(scores, model, granularity) is scores
        loaded = sec.Scores.load(scores.save(tmp_path / "s.safetensors"))
        assert _fit(loaded, net(), granularity) is loaded
        assert stamp_of(loaded) == stamp_of(scores)


def test_each_difference_has_its_own_words() -> None:
    model, other = net(), net()
    with torch.no_grad():
        other.head.bias[0] += 1e-7
    crossed = Crossed()
    crossed.load_state_dict(model.state_dict())
    scores = _scores(model, sec.Channels())
    for asked, granularity, words, hint in (
        (model, sec.Weights(), "units are channels, and weights are asked for", "channels"),
        (model, sec.Block(2, 4), "and block:2:4:1 are asked", "channels"),
        (model, sec.Channels(["stem"]), "'stem.0' was scored that the network lacks", "--keep"),
        (net(14), sec.Channels(), "'stem.0' has 14 units, and 12 were scored", "is it the network"),
        (other, sec.Channels(), "other weights", "--seed"),
        (crossed.eval(), sec.Channels(), "other members", "code"),
    ):
        with pytest.raises(ScoreError, match=words) as caught:
            _fit(scores, asked, granularity)
        assert hint in caught.value.hint


def test_kept_layers_that_are_let_go_were_not_scored() -> None:
    scores = _scores(net(), sec.Channels(["stem"]))
    with pytest.raises(ScoreError, match=r"'stem\.0' that was not scored"):
        _fit(scores, net(), sec.Channels())


def test_scores_that_nobody_stamped_fit_by_names_and_sizes_and_are_stamped_then() -> None:
    bare = _scores(net(), sec.Channels(), noted=False)
    assert stamp_of(bare) == {}
    trained = net()
    with torch.no_grad():
        trained.head.bias[0] += 1
    fitted = _fit(bare, trained, sec.Channels())
    assert fitted.table is bare.table
    assert fitted.layers is bare.layers
    assert stamp_of(fitted) == stamp_of(_scores(trained, sec.Channels()))
    with pytest.raises(ScoreError, match="14 units"):
        _fit(bare, net(14), sec.Channels())


def test_a_saliency_that_is_called_as_the_stamp_is_none() -> None:
    scores = sec.Scores({STAMP: {}}, {STAMP: "Magnitude(p=2)"})
    assert stamp_of(scores) == {}

"""Repairs without labels, by name, through the whole pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

import secateur as sec
from secateur.errors import OptionError, UnknownNameError
from secateur.pipeline.job import job
from secateur.pipeline.repairs import REPAIRS
from tests.pipeline.test_recipes import images, small


def pruned(**choices: Any) -> sec.Result:
    return sec.prune(small(), data=images(), to="macs=0.6", samples=200, **choices)


def test_accuracy_is_told_after_each_repair_in_its_order() -> None:
    found = pruned(method="taylor", repair=["fold_means", "least_squares"], recalibrate=True)
    names = ["oneshot", "fold_means", "least_squares", "recalibrated"]
    assert list(found.measures["pruned"]["accuracy"]) == names


def test_a_repair_does_what_its_function_does_on_the_same_samples() -> None:
    found = pruned(method="magnitude", repair="fold_means", recalibrate=False)
    by_hand = sec.shrink(small(), found.plan)
    bare = sec.shrink(small(), found.plan)
    # the head's bias holds the mean of the whole sample: the same, whatever its order
    few = pruned(method="magnitude", repair="fold_means", recalibrate=False)
    sec.fold_means(by_hand, small(), found.plan, images().train.batches(128))
    after = found.model.state_dict()
    for name, value in few.model.state_dict().items():
        assert torch.equal(value, after[name])
    changed = [n for n, v in bare.state_dict().items() if not torch.equal(v, after[n])]
    assert changed == [
        n for n, v in bare.state_dict().items() if not torch.equal(v, by_hand.state_dict()[n])
    ]
    assert changed


def test_least_squares_is_not_followed_by_recalibration_unless_asked() -> None:
    for choices, again in (
        ({}, True),
        ({"repair": "fold_means"}, True),
        ({"repair": "least_squares"}, False),
        ({"repair": "least_squares", "recalibrate": True}, True),
        ({"recalibrate": False}, False),
    ):
        reached = pruned(method="magnitude", **choices).measures["pruned"]["accuracy"]
        assert ("recalibrated" in reached) == again


def test_where_least_squares_can_repair_nothing_statistics_are_measured_again() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.ConvTranspose2d(6, 10, 3),
        nn.BatchNorm2d(10), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    ).eval()  # fmt: skip
    found = sec.prune(model, data=images(), to="macs=0.6", samples=200, repair="least_squares")
    assert not found.measures["repairs"]["least_squares"]["changed"]
    assert "recalibrated" in found.measures["pruned"]["accuracy"]


class Shuffled:
    """Batches in an order that torch's random state decides."""

    def __iter__(self) -> Iterator[Any]:
        train = images().train
        return iter(train.batches(50, shuffle=True))


def test_equal_arguments_give_equal_weights_whatever_the_random_state() -> None:
    scores = sec.prune(small(), data=images(), to="macs=0.6", samples=200).scores
    found = []
    for state in (1, 2):
        torch.manual_seed(state)
        found.append(
            sec.prune(small(), data=Shuffled(), scores=scores, to="macs=0.6", samples=100,
                      repair="least_squares")
        )  # fmt: skip
    for name, value in found[0].model.state_dict().items():
        assert torch.equal(value, found[1].model.state_dict()[name])
    assert found[0].certificate == found[1].certificate  # of one example


def test_fair_brings_least_squares_and_the_caller_has_the_last_word() -> None:
    assert job("fair", "macs=0.5").repairs == ("least_squares",)
    assert job("fair", "macs=0.5", repair="fold_means").repairs == ("fold_means",)
    assert job("fair", "macs=0.5", repair="none").repairs == ()
    assert job("fair", "macs=0.5", repair=()).repairs == ()
    assert job(sec.Fair(repairs=()), "macs=0.5").repairs == ()
    assert job("taylor", "macs=0.5").repairs == ()


def test_names_that_make_no_sense_are_refused_before_anything_runs() -> None:
    with pytest.raises(UnknownNameError, match="fold_means"):
        job("taylor", "macs=0.5", repair="fold_mean")
    with pytest.raises(UnknownNameError):
        job("taylor", "macs=0.5", repair=("none", "fold_means"))
    with pytest.raises(OptionError, match="twice"):
        job("taylor", "macs=0.5", repair=("fold_means", "fold_means"))


def test_an_order_that_adds_the_same_twice_is_refused() -> None:
    assert job("taylor", "macs=0.5", repair=("fold_means", "least_squares")).repairs
    with pytest.raises(OptionError, match="after least_squares"):
        job("taylor", "macs=0.5", repair=("least_squares", "fold_means"))


def test_what_was_repaired_and_what_not_is_told() -> None:
    found = pruned(method="taylor", repair="least_squares")
    told = found.measures["repairs"]["least_squares"]
    assert set(told["changed"]) <= {"3", "7"}
    assert told["changed"]["7"] == ["7.weight", "7.bias"]
    assert "Ranked(by='taylor'" in found.decision


def test_a_tolerance_has_its_second_signal_scored_too() -> None:
    found = pruned(method="magnitude", allocator="tolerance?protect=taylor")
    assert set(found.scores) == {"magnitude", "taylor"}
    assert "meets (alpha" in found.decision
    with pytest.raises(UnknownNameError, match="tailor"):
        job("magnitude", "macs=0.5", allocator="tolerance?protect=tailor")
    with pytest.raises(OptionError, match="both go by"):
        job("magnitude", "macs=0.5", allocator="tolerance?protect=magnitude")


@pytest.mark.parametrize("name", REPAIRS)
def test_units_that_are_only_masked_cannot_be_repaired_and_this_is_said_at_once(name: str) -> None:
    scored: list[str] = []
    with pytest.raises(OptionError, match="only masked"):
        pruned(
            method="taylor", granularity="weights", repair=name,
            progress=lambda progress: scored.append(progress.stage),
        )  # fmt: skip
    assert "score" not in scored

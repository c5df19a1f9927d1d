"""Fine-tuning that goes on where it was stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import secateur as sec
from secateur import archive
from secateur.errors import FileError, PlanError
from secateur.pipeline.job import job
from secateur.pipeline.progress import Progress, silent
from secateur.pipeline.source import epochs, source
from secateur.pipeline.tune import tune
from secateur.types.dataset import Dataset, Stream
from tests.pipeline.small import data, net, part

EPOCHS = 3


class StopError(Exception):
    """In the place of a kill."""


def _plan() -> sec.Plan:
    groups = sec.groups(net(), part(2, seed=0).x)
    scores = sec.score(net(), groups, None, sec.Magnitude())
    return sec.allocate(groups, scores, sec.Ranked(by="magnitude"), "macs=0.5")


def _streaming() -> Dataset:
    def read(samples: int, seed: int) -> Iterator[Any]:
        yield from part(samples, seed).batches(64)

    return Dataset("s", Stream(lambda: read(300, 0), "train"), Stream(lambda: read(50, 1), "test"))


@pytest.mark.parametrize("of", [data, _streaming])
@pytest.mark.parametrize("stop", [1, 2, 4, 5, 8])
def test_stopped_anywhere_the_end_is_the_same(tmp_path: Path, of: Any, stop: int) -> None:
    plan, task = _plan(), job("magnitude", "macs=0.5", finetune=EPOCHS)
    batches = epochs(source(of()))
    whole = sec.shrink(net(), plan)
    tune(whole, plan, batches, task, None, silent)

    def stopping(now: Progress) -> None:
        nonlocal stop
        stop -= 1
        if stop == 0:
            raise StopError

    path = tmp_path / "checkpoint.safetensors"
    small = sec.shrink(net(), plan)
    with pytest.raises(StopError):
        tune(small, plan, batches, task, path, stopping)
    fresh = sec.shrink(net(), plan)
    tune(fresh, plan, epochs(source(of())), task, path, silent)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, fresh.state_dict()[name]), name
    again = sec.shrink(net(), plan)
    tune(again, plan, [], task, path, silent)  # nothing is left to do
    assert torch.equal(again.head.weight, whole.head.weight)


def test_progress_counts_all_epochs() -> None:
    seen: list[Progress] = []
    plan, task = _plan(), job("magnitude", "macs=0.5", finetune=2)
    batches = epochs(source(data(300)))
    tune(sec.shrink(net(), plan), plan, batches, task, None, seen.append)
    assert [progress.done for progress in seen] == list(range(7))
    assert seen[-1].of == 6


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    plan, task = _plan(), job("magnitude", "macs=0.5", finetune=EPOCHS)
    path = tmp_path / "checkpoint.safetensors"
    small = sec.shrink(net(), plan)

    def again() -> None:
        tune(sec.shrink(net(), plan), plan, epochs(source(data())), task, path, silent)

    state = {f"model.{name}": tensor for name, tensor in net().state_dict().items()}
    archive.save(path, "checkpoint", {"epochs": 1}, state)
    with pytest.raises(PlanError, match="stored"):
        again()
    for claim in (0, 99):
        state = {f"model.{name}": tensor for name, tensor in small.state_dict().items()}
        archive.save(path, "checkpoint", {"epochs": claim}, state)
        with pytest.raises(FileError, match="claims"):
            again()
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(FileError):
        again()


def test_frozen_parameters_stay_as_they_are() -> None:
    plan, task = _plan(), job("magnitude", "macs=0.5", finetune=1)
    small = sec.shrink(net(), plan)
    small.head.requires_grad_(False)
    before = [parameter.clone() for parameter in small.head.parameters()]
    tune(small, plan, epochs(source(data())), task, None, silent)
    assert all(map(torch.equal, before, small.head.parameters()))
    assert isinstance(small, nn.Module)

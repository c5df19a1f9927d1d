"""TensorBoard reads back what was recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from secateur.learn import Course, Epoch, History
from tests.integrations.tiny import gated

pytest.importorskip("tensorboard")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from secateur.integrations.tensorboard import write, write_epoch


def history() -> History:
    """Two epochs of a network that learns nothing, one of them without a loss."""
    course = Course(gated(), draws=10)
    for epoch, loss in enumerate((1.5, None)):
        course.begin(epoch, 2)
        course.gated.redraw()
        course.end(loss)
    return course.history


def one_by_one(given: History, folder: Path) -> None:
    with closing(SummaryWriter(str(folder))) as writer:
        for epoch in given.epochs:
            write_epoch(writer, epoch)


@pytest.mark.parametrize("how", [write, one_by_one])
def test_every_number_is_read_back(how: Callable[[History, Path], None], tmp_path: Path) -> None:
    given = history()
    how(given, tmp_path)
    events = EventAccumulator(str(tmp_path)).Reload()
    expected = {name: [] for epoch in given.epochs for name in epoch.scalars()}
    for epoch in given.epochs:
        for name, value in epoch.scalars().items():
            expected[name].append((epoch.epoch, pytest.approx(value, rel=1e-6)))
    found = {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }
    assert found == expected
    assert len(found["masks/loss"]) == 1 < len(found["masks/0/confidence"]) == 2


def test_names_are_those_of_the_values() -> None:
    epoch = history().epochs[0]
    values = json.loads(json.dumps(epoch.to_json()))
    scalars = epoch.scalars()
    assert scalars["masks/temperature"] == values["temperature"] == 5.0
    for group, measures in values["masks"].items():
        for name in set(measures) - {"rows", "n", "k"}:
            assert scalars[f"masks/{group}/{name}"] == measures[name]
    assert isinstance(epoch, Epoch)

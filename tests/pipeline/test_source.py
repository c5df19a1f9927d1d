"""Data, as each stage wants it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.errors import DataError
from secateur.pipeline.source import BATCH, calibration, epochs, judging, source
from secateur.types.dataset import Dataset, Split, Stream
from tests.pipeline.small import data, part


def _sizes(batches: Any) -> list[int]:
    return [len(y) for _, y in batches]


def test_a_data_set_brings_both_parts() -> None:
    of = source(data(300))
    assert sum(_sizes(calibration(of, 1000, seed=0))) == 300
    assert sum(_sizes(epochs(of))) == 300
    assert sum(_sizes(judging(of))) == 100
    other = source(data(300), test=part(7, seed=9))
    assert _sizes(judging(other)) == [7]


def test_samples_are_drawn_across_what_may_be_sorted() -> None:
    y = torch.arange(4).repeat_interleave(100)
    of = source(Split(torch.zeros(400, 2), y))
    seen = torch.cat([labels for _, labels in calibration(of, 80, seed=0)])
    assert len(seen) == 80
    assert set(seen.tolist()) == {0, 1, 2, 3}
    again = torch.cat([labels for _, labels in calibration(of, 80, seed=0)])
    assert torch.equal(seen, again)
    other = torch.cat([labels for _, labels in calibration(of, 80, seed=1)])
    assert not torch.equal(seen, other)


@given(st.integers(2, 700))
def test_no_batch_holds_a_single_sample(samples: int) -> None:
    of = source(Split(torch.zeros(samples, 2), torch.zeros(samples).long()))
    sizes = _sizes(epochs(of))
    assert sum(sizes) == samples
    assert min(sizes) > 1
    assert max(sizes) <= BATCH


def test_what_others_read_is_taken_from_its_beginning_and_no_further() -> None:
    read = []

    def batches() -> Iterator[Any]:
        for number in range(10):
            read.append(number)
            yield torch.zeros(8, 2), torch.zeros(8).long()

    of = source(Dataset("user", Stream(batches, "train"), Stream(batches, "test")))
    for _ in range(2):  # as often as wanted
        read.clear()
        assert _sizes(calibration(of, 20, seed=0)) == [8, 8, 8]
        assert read == [0, 1, 2]
    assert len(_sizes(epochs(of))) == 10


def test_a_part_that_is_not_there() -> None:
    of = source(None)
    assert calibration(of, 8, seed=0) is None
    assert epochs(of) is None
    assert judging(of) is None


def test_what_can_be_read_once_only_is_refused() -> None:
    batches = list(part(8, seed=0).batches(4))
    for train, test, where in ((iter(batches), None, "data"), (batches, iter(batches), "test")):
        with pytest.raises(DataError, match=where):
            source(train, test)

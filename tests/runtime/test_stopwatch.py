"""Latencies of two networks, taken in turns on any runtime."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import secateur as sec
from secateur.errors import DataError, MissingExtraError, OptionError
from secateur.runtime import RUNTIMES


@pytest.mark.parametrize("name", [None, "eager", "onnxruntime", "openvino"])
def test_both_are_timed_and_say_on_what(name: str | None) -> None:
    runtime = None if name is None else RUNTIMES[name]
    if runtime is not None:
        try:
            runtime.require()
        except MissingExtraError:
            pytest.skip(f"{name} is not installed")
    watch = sec.Stopwatch(runtime, batch=3, repeats=7)
    models = [nn.Linear(4, 4).train(), nn.Linear(4, 2)]
    timed = watch.against(models[0], torch.randn(1, 4))
    for _ in range(2):
        both = timed(models[1])
        assert len(both) == 2
        for one in both:
            assert 0.0 < one.p10_s <= one.median_s <= one.p90_s
            assert (one.batch, one.threads, one.repeats) == (3, 1, 7)
            assert one.runtime.split()[0] in ("torch", name)
    assert models[0].training


def test_the_network_that_comes_first_was_made_ready_once() -> None:
    class Counting(sec.TorchEager):
        __slots__ = ()
        loaded = 0

        def load(self, *arguments: object, **options: object) -> object:
            type(self).loaded += 1
            return super().load(*arguments, **options)  # type: ignore[arg-type]

    timed = sec.Stopwatch(Counting(), repeats=2).against(nn.Linear(4, 4), torch.randn(1, 4))
    timed(nn.Linear(4, 2))
    timed(nn.Linear(4, 1))
    assert Counting.loaded == 3


def test_time_runs_out() -> None:
    watch = sec.Stopwatch(sec.TorchEager(), repeats=10_000, seconds=1e-9)
    both = watch.against(nn.Linear(4, 4), torch.randn(1, 4))(nn.Linear(4, 4))
    assert [one.repeats for one in both] == [5, 5]


@pytest.mark.parametrize(
    "options",
    [{"runtime": "onnxruntime"}, {"batch": 0}, {"threads": 0}, {"repeats": 1.5}, {"seconds": 0.0},
     {"seconds": float("nan")}],
)  # fmt: skip
def test_what_makes_no_sense(options: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        sec.Stopwatch(**options)  # type: ignore[arg-type]


def test_what_does_not_run() -> None:
    with pytest.raises(DataError):
        sec.Stopwatch(sec.TorchEager()).against(nn.Linear(4, 4), torch.randn(1, 5))

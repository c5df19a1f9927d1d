"""Latency, measured: warm-up, interleaved repeats, median and spread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from secateur.errors import OptionError
from secateur.types.call import batch_size, call, device_of, of_size, run, to
from secateur.types.untouched import untouched

FEWEST = 5
"""Turns that are taken in any case: a median of fewer is one pass or the other."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds of one forward pass, and how they were taken."""

    median_s: float
    p10_s: float  # a tenth of the repeats was faster
    p90_s: float  # a tenth was slower
    runtime: str  # "torch eager"
    batch: int
    threads: int
    device: str  # "cpu", or the name of the CUDA device
    repeats: int | None = None  # how many passes the quantiles are of

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; times in seconds."""
        return {
            "median": self.median_s,
            "p10": self.p10_s,
            "p90": self.p90_s,
            "runtime": self.runtime,
            "batch": self.batch,
            "threads": self.threads,
            "device": self.device,
            "repeats": self.repeats,
        }


def latency(
    models: Sequence[nn.Module],
    example: Any,
    *,
    repeats: int = 30,
    warmup: int = 3,
    threads: int = 1,
    batch: int | None = None,
    seconds: float | None = None,
) -> list[Latency]:
    """Time one forward pass of each network on the same example, in eval mode without gradients.

    Networks that are to be compared belong in one call: their repeats are interleaved, so that a
    busy machine slows them alike. Networks and torch's thread count are as before afterwards.

    Args:
        threads: intra-op threads of torch; 1 is the honest choice on a shared machine.
        batch: repeat or cut the example's samples to this many; None takes it as it is.
        seconds: turn after turn until so many are over, but not fewer than `FEWEST` turns and not
            more than `repeats`; None: all repeats, however long they take.

    Raises:
        DataError: a network does not run on the example.
        OptionError: no network, networks on several devices, or a number below one.
    """
    _check(models, repeats, warmup, threads, batch)
    device = device_of(models[0])
    example = to(example if batch is None else of_size(example, batch), device=device)
    with ExitStack() as stack:
        for model in models:
            stack.enter_context(untouched(model))
        stack.enter_context(_threads(threads))
        # not inference mode: what a network caches in it could never be trained on again
        stack.enter_context(torch.no_grad())
        for model in models:  # an input that does not fit is said before the clock runs
            run(model, example, "example")
        calls = [_forward(model, example, device) for model in models]
        times = interleaved(calls, repeats=repeats, warmup=warmup, seconds=seconds)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return [_summary(taken, batch_size(example), threads, name) for taken in times]


def interleaved(
    calls: Sequence[Callable[[], float]],
    *,
    repeats: int,
    warmup: int,
    seconds: float | None = None,
) -> list[list[float]]:
    """Run each call `repeats` times, one after the other in turns: seconds per call and repeat.

    With `seconds` no turn begins once the calls have taken so many, after the first `FEWEST`.

    A call does its work once and returns the seconds it took, so that any runtime can be timed.
    Who begins a turn rotates: none is always the one that finds the caches cold.
    """
    for one in calls:
        for _ in range(warmup):
            one()
    times: list[list[float]] = [[] for _ in calls]
    for turn in range(repeats):
        if seconds is not None and turn >= FEWEST and sum(map(sum, times)) >= seconds:
            break
        for i in range(len(calls)):
            place = (turn + i) % len(calls)
            times[place].append(calls[place]())
    return times


def _summary(seconds: Sequence[float], batch: int, threads: int, device: str) -> Latency:
    median, p10, p90 = map(float, np.quantile(seconds, [0.5, 0.1, 0.9]))
    return Latency(median, p10, p90, "torch eager", batch, threads, device, len(seconds))


def _forward(model: nn.Module, example: Any, device: torch.device) -> Callable[[], float]:
    def once() -> float:
        _synchronise(device)
        begin = time.perf_counter()
        call(model, example)
        _synchronise(device)
        return time.perf_counter() - begin

    return once


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def _threads(wanted: int) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(wanted)
        yield
    finally:
        torch.set_num_threads(before)


def _check(
    models: Sequence[nn.Module], repeats: int, warmup: int, threads: int, batch: int | None
) -> None:
    if not models:
        raise OptionError("there is no network to time", where="models")
    if len({device_of(model) for model in models}) > 1:
        raise OptionError(
            "the networks are on several devices", where="models", hint="move them to one first"
        )
    for name, value, least in (
        ("repeats", repeats, 1),
        ("warmup", warmup, 0),
        ("threads", threads, 1),
        ("batch", 1 if batch is None else batch, 1),
    ):
        if value < least:
            raise OptionError(f"must be at least {least}, not {value}", where=name)

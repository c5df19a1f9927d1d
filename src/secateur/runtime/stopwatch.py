"""How a network's latency is taken: on what, for how many samples at a time, by how many threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from secateur.cost import Latency, latency
from secateur.errors import OptionError
from secateur.runtime.runtime import Once, Runtime
from secateur.runtime.timing import seconds
from secateur.types.call import batch_size, of_size
from secateur.types.kinds import refuse_no_function, refuse_no_network


@dataclass(frozen=True, slots=True)
class Stopwatch:
    """What a latency is a latency of.

    Attributes:
        runtime: what runs the networks; None: PyTorch as it is, on the device where they lie.
        batch: samples of one forward pass: the example's, again and again; None: as many as it has.
        threads: of one forward pass; 1 is the honest choice on a shared machine.
        repeats: forward passes of each network, at most.
        seconds: no turn begins once so many are over, after the first few.
        clock: with a runtime by name `time.process_time` takes one thread's seconds of the processor,
            for a machine on which others are at work.
    """

    runtime: Runtime | None = None
    batch: int | None = None
    threads: int = 1
    repeats: int = 300
    seconds: float = 2.0
    clock: Callable[[], float] = time.perf_counter

    def __post_init__(self) -> None:
        if self.runtime is not None and not isinstance(self.runtime, Runtime):
            raise OptionError(
                f"{self.runtime!r} runs no networks", "Stopwatch", "runtime=sec.OnnxRuntime()"
            )
        for name in ("batch", "threads", "repeats"):
            value: object = getattr(self, name)
            optional = name == "batch" and value is None
            if not optional and (type(value) is not int or value < 1):
                raise OptionError(
                    f"{name}={value!r} is not a whole number from 1", "Stopwatch", f"{name}=1"
                )
        refuse_no_function(self.clock, "Stopwatch", "clock=time.process_time")
        if self.clock is not time.perf_counter and (self.runtime is None or self.threads > 1):
            raise OptionError(
                "a clock of one's own needs a runtime by name and one thread",
                where="Stopwatch",
                hint="runtime=sec.TorchEager(), threads=1",
            )
        number: object = self.seconds
        if isinstance(number, bool) or not isinstance(number, int | float) or not number > 0.0:
            raise OptionError(f"seconds={self.seconds!r} is no time", "Stopwatch", "seconds=2.0")

    def against(self, dense: nn.Module, example: Any) -> Callable[[nn.Module], list[Latency]]:
        """Make a network ready, to be timed in turns with each of those that come.

        Returns:
            What times it beside another network, and gives both latencies, its own first. A busy
            machine slows both alike: their ratio is worth more than either.

        Raises:
            DataError: the network does not run on the example.
            MissingExtraError: the runtime is not installed.
            ModelError: it is no network, or the runtime cannot run it.
        """
        refuse_no_network(dense, "Stopwatch")
        runtime, given = self.runtime, self.example(example)
        if runtime is None:

            def in_place(small: nn.Module) -> list[Latency]:
                refuse_no_network(small, "Stopwatch")
                return latency(
                    [dense, small],
                    given,
                    repeats=self.repeats,
                    threads=self.threads,
                    seconds=self.seconds,
                )

            return in_place
        first = runtime.load(dense, given, self.threads)

        def timed(small: nn.Module) -> list[Latency]:
            calls = [first, runtime.load(small, given, self.threads)]
            name = runtime.require()
            if self.clock is not time.perf_counter:
                name += f", {self.clock.__name__}"
            return self._timed(name, calls, batch_size(given))

        return timed

    def example(self, example: Any) -> Any:
        """The example, of as many samples as one forward pass has."""
        return example if self.batch is None else of_size(example, self.batch)

    def _timed(self, name: str, calls: Sequence[Once], batch: int) -> list[Latency]:
        found = []
        for taken in seconds(calls, repeats=self.repeats, most=self.seconds, clock=self.clock):
            median, p10, p90 = map(float, np.quantile(taken, [0.5, 0.1, 0.9]))
            found.append(Latency(median, p10, p90, name, batch, self.threads, "cpu", len(taken)))
        return found

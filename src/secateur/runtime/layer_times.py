"""The clock on single layers: each at a handful of widths, in turns."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from secateur.cost import Layer
from secateur.cost.surface import Point
from secateur.runtime.one_layer import ready, without
from secateur.runtime.runtime import Runtime
from secateur.runtime.timing import seconds

_REPEATS = 200
_EACH = 0.03  # seconds that a point may take, after the first few turns
_LEAST = 1e-8  # seconds: what is lost in the clock's noise still takes some time


def layer_times(
    runtime: Runtime, layer: Layer, where: Sequence[Point], threads: int
) -> dict[Point, float]:
    """Median seconds of a layer at these widths, less what is there without it.

    With one thread they are seconds of the processor, which others on the machine disturb less.

    Raises:
        MissingExtraError: the runtime is not installed.
        ModelError: the runtime cannot run it.
    """
    read = {(outs, ins): ins * (layer.groups or outs) for outs, ins in where}
    around = sorted(set(read.values())) if layer.kernel else [1]
    calls = [without(runtime, layer, channels, threads) for channels in around]
    calls += [ready(runtime, layer, outs, ins, threads) for outs, ins in where]
    clock = time.process_time if threads == 1 else time.perf_counter
    taken = seconds(calls, repeats=_REPEATS, warmup=1, most=_EACH * len(calls), clock=clock)
    medians = [float(np.median(one)) for one in taken]
    empty = dict(zip(around, medians, strict=False))
    return {
        point: max(median - empty.get(read[point], medians[0]), _LEAST)
        for point, median in zip(where, medians[len(around) :], strict=True)
    }

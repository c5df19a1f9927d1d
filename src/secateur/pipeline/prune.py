"""The short path: from a network to a smaller one in one call."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Unpack

from torch import nn

from secateur.pipeline.budgets import To
from secateur.pipeline.example import from_data
from secateur.pipeline.given import example_of_scores, read_scores
from secateur.pipeline.job import Choices, job
from secateur.pipeline.methods import Chosen
from secateur.pipeline.progress import Report, silent
from secateur.pipeline.result import Result
from secateur.pipeline.shelf import Memory
from secateur.pipeline.source import Data, source
from secateur.pipeline.stages import carry_out
from secateur.types.call import device_of
from secateur.types.scores import Scores


def prune(
    model: nn.Module,
    example: Any = None,
    data: Data | None = None,
    *,
    method: Chosen | None = None,
    to: To = "macs=0.5",
    scores: Scores | str | Path | None = None,
    test: Iterable[Any] | None = None,
    progress: Report = silent,
    **choices: Unpack[Choices],
) -> Result:
    """Score, allocate, shrink, certify, recover and measure; the model itself is left as it was.

        result = sec.prune(model, example, data, method="taylor", to="macs=0.5")
        print(result)

    The certificate is taken before recalibration. The result follows from the arguments alone: on
    one machine and with one number of threads, equal arguments give equal bytes.

    Args:
        example: as the network is called; where it is not given, the data's first sample, or
            random numbers of the shapes that were scored.
        data: a `Dataset`, or batches (x, y) that can be read several times. None where the method
            looks at weights alone.
        method: a saliency's name with its options ("magnitude?p=1"), the name of a recipe, a
            saliency or a composition of some, a recipe, or `file.py:Name`. "taylor" where it is not
            given; with scores, the first of them.
        to: budgets, or their text: what must hold afterwards, as what is kept. None where the
            granularity says by itself what leaves, as `block:2:4` does.
        scores: taken before, of this network: then no data are needed, and where they are given they
            serve recovery and accuracy. Scores, their file, or the folder of a run.
        test: batches (x, y) for accuracy; where it is not given, the data set's own test part.
        progress: called with each `Progress`.
        granularity: what a unit is: "channels", "heads", "experts", "weights", "kernels", "block:2:4", or
            a value.
        keep: names, globs or modules that stay whole.
        allocator: "ranked" (over the whole network), "uniform" (the same share of each group),
            "tolerance?protect=NAME", or a value.
        floor: what stays of every group: a fraction (float) or a number of units (int).
        round_to: widths become multiples of this.
        loss: mean over a batch's samples; `F.cross_entropy` where it is not given.
        samples: how many training samples scoring and recalibration see; 4096 where not given.
        repair: "fold_means" or "least_squares", or several: give layers that read removed units back
            what they miss, without labels (on at most 512 of the samples); "none": not even what
            the method brings along, as `fair` does.
        recalibrate: measure the statistics of BatchNorms again; where not given, True unless least
            squares made layers answer as before, which new statistics only disturb.
        finetune: epochs of SGD with momentum and a cosine, on all training samples; 0 where not given.
        bits: 8, 4, 2 or 1 for each weight, or a `Quantizer`, as the last step of all; "dpp" trains the
            weights with them.
        rounding: "nearest", or "calibrated" on at most 512 of the samples; where not given, calibrated
            if there are data. With it "dpp" trains in float32, and rounds in the end.
        measure: "counted": parameters, MACs, memory and accuracy only, which is sooner; latency and
            packed bytes are then None. "all" where not given.
        stopwatch: what latencies are latencies of: `Stopwatch(OnnxRuntime(), batch=16, threads=1)`; eager
            PyTorch on the example, with one thread, where not given.
        layers: a `LayerTable`: a budget of latency then rounds widths as the table's times suggest, and
            aims by them before it measures the network; True: the user's own, False: none. Where not
            given, the user's own if a runtime is named that needs no compiler.
        seed: of everything that is drawn.

    Raises:
        UnknownNameError: a method, granularity, allocator or name to keep does not exist.
        OptionError: an argument makes no sense.
        BudgetError: a budget is malformed or cannot be reached; it names the nearest that can.
        PlanError: nothing needs to go, or nothing can.
        ModelError: the network is wrapped, not finite, does not run, or cannot be trained.
        DataError: data are missing, empty, not finite, or do not fit the network.
        ScoreError: a saliency gave scores that are not finite; the scores given are of other weights,
            another granularity or another method.
        FileError: the scores' file is missing or damaged.
    """
    given = read_scores(scores) if isinstance(scores, str | Path) else scores
    task, of = job(method, to, given, **choices), source(data, test)
    if example is None and of.train is None:
        example = example_of_scores(task, task.seed, device_of(model))
    if example is None:
        example = from_data(model, of, task.granularity, task.seed)
    return carry_out(task, model, example, of, Memory(), progress)

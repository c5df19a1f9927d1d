"""What a run measures of the dense and of the pruned network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

from secateur.cost import Latency
from secateur.measure import Accuracy, measure, measures_json
from secateur.pipeline.job import Job
from secateur.pipeline.packed import packed
from secateur.pipeline.progress import Progress, Report
from secateur.pipeline.recovery import Recovered
from secateur.recipes import Learning
from secateur.runtime import Stopwatch
from secateur.types.budget import Budget
from secateur.types.call import batch_size
from secateur.types.plan import Plan

NOISE = 0.02
"""By this fraction a second measurement of a latency may be above the first."""


def measured(
    job: Job,
    models: tuple[nn.Module, nn.Module],
    example: Any,
    plan: Plan,
    accuracy: Accuracy | None,
    after: Recovered,
    report: Report,
) -> Mapping[str, Any]:
    """The contents of `measures.json`.

    Args:
        models: the dense and the pruned network.
        accuracy: of the dense one, where there is a test part.
    """
    times, sizes, why = _taken(job, models, example, plan, report)
    dense = measure(models[0], example, packed=sizes[0], latency=times[0], accuracy=accuracy)
    pruned = measure(
        models[1],
        example,
        plan=plan,
        packed=sizes[1],
        latency=times[1],
        accuracy=after.reached or None,
    )
    repairs: Mapping[str, Any] = {name: done.to_json() for name, done in after.repaired.items()}
    found = measures_json(dense, pruned, job.budgets, plan)
    more: dict[str, Any] = {"repairs": repairs} if repairs else {}
    if after.rounded is not None:
        more["quantized"] = after.rounded.to_json()
    if isinstance(job.method, Learning):
        more["learned"] = True  # the pruned network's weights are not the dense one's
    return {**found, **more, **why, **samples(job.stopwatch, example)}


def samples(stopwatch: Stopwatch, example: Any) -> dict[str, int]:
    """How many samples the counted numbers are of, where the latency is one of other many."""
    size = None if stopwatch.batch is None else batch_size(example)
    return {} if size is None or size == stopwatch.batch else {"batch": size}


def _taken(
    job: Job,
    models: tuple[nn.Module, nn.Module],
    example: Any,
    plan: Plan,
    report: Report,
) -> tuple[Sequence[Latency | None], tuple[int | None, int | None], dict[str, Any]]:
    """What a clock and a packer say of both networks, and what is left out of that, and why.

    Both are timed in one run.
    """
    if job.counted:
        left = dict.fromkeys(
            ("latency_s", "packed_bytes"), "only what can be counted was asked for"
        )
        return (None, None), (None, None), {"unmeasured": left}
    report(Progress("latency"))
    return _timed(job, models, example), *packed(models, plan)


def _timed(job: Job, models: tuple[nn.Module, nn.Module], example: Any) -> Sequence[Latency]:
    """Both latencies; where a budget is judged by them, the middle ones of three runs.

    One run may be disturbed for as long as it takes, to either side.
    """
    beside = job.stopwatch.against(models[0], example)
    found = beside(models[1])
    for budget in job.budgets:
        if budget.quantity == "latency":
            runs = [found, beside(models[1]), beside(models[1])]
            found = sorted(runs, key=partial(_excess, budget))[1]
    return found


def _excess(budget: Budget, times: Sequence[Latency]) -> float:
    dense, pruned = (each.median_s for each in times)
    return pruned / budget.limit(dense)

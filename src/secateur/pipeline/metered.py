"""Budgets that a job must measure, and the plan that keeps them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

from torch import nn

from secateur.allocate import COUNTED, Allocator, allocate
from secateur.cost import latency, peak_memory_bytes
from secateur.errors import BudgetError, DataError
from secateur.measure import Measured, search
from secateur.pipeline.job import Job
from secateur.pipeline.packed import packed
from secateur.pipeline.progress import Progress, Report
from secateur.pipeline.recovery import judge, repair
from secateur.pipeline.source import Source
from secateur.types.budget import Budget
from secateur.types.group import Groups
from secateur.types.plan import Plan
from secateur.types.scores import Scores

_NOISE = 0.03  # by which a second measurement of a latency may be above the first
_REPAIRED = 0.01  # by which other weights of the same shapes may take more bytes


def decided(
    job: Job,
    network: tuple[nn.Module, Any],
    of: Source,
    groups: Groups,
    by: tuple[Scores, Allocator],
    report: Report,
) -> Plan:
    """What stays, so that every budget holds: those that are counted, and those that are measured.

    Raises:
        BudgetError: they cannot be kept.
        DataError: accuracy is to be kept, and there is nothing to judge it by.
    """
    model, example = network
    scores, how = by

    def at(budgets: Sequence[Budget]) -> Plan:
        return allocate(groups, scores, how, budgets or None)

    counted = [budget for budget in job.budgets if budget.quantity in COUNTED]
    others = [budget for budget in job.budgets if budget.quantity not in COUNTED]
    if not others:
        return at(counted)
    accurate = [b for b in others if b.quantity == "accuracy"]
    ceilings = [_ceiling(b, model, example) for b in others if b.quantity != "accuracy"]
    return search(
        model,
        at,
        ceilings,
        _accuracy(max(accurate, key=_strictness), job, model, of) if accurate else None,
        counted=counted,
        fine_tuned=job.finetune > 0,
        tell=lambda what, done: report(Progress(what, done, None)),
    )


def _strictness(budget: Budget) -> float:
    return budget.target


def _ceiling(budget: Budget, model: nn.Module, example: Any) -> Measured:
    """A budget on what a network costs: bytes, memory or latency."""
    if budget.quantity == "bytes":
        return Measured(budget, _bundled(model, budget), _REPAIRED)
    if budget.quantity == "latency":
        return Measured(budget, _timed(model, example), _NOISE)
    dense = float(peak_memory_bytes(model, example))
    return Measured(budget, lambda _, small: (dense, float(peak_memory_bytes(small, example))))


def _bundled(model: nn.Module, budget: Budget) -> Callable[[Plan, nn.Module], tuple[float, float]]:
    """Both networks as bundles."""

    def read(plan: Plan, small: nn.Module) -> tuple[float, float]:
        (dense, pruned), why = packed((model, small), plan)
        if dense is None or pruned is None:
            raise BudgetError(
                f"cannot be measured: {why['unmeasured']['packed_bytes']}", where=str(budget)
            )
        return float(dense), float(pruned)

    return read


def _timed(model: nn.Module, example: Any) -> Callable[[Plan, nn.Module], tuple[float, float]]:
    """Both networks in one run, so that a busy machine slows them alike."""

    def read(_: Plan, small: nn.Module) -> tuple[float, float]:
        dense, pruned = latency([model, small], example)
        return dense.median_s, pruned.median_s

    return read


def _accuracy(budget: Budget, job: Job, model: nn.Module, of: Source) -> Measured:
    """A budget on what a network is worth, after its repairs."""
    silent: Report = lambda _: None  # noqa: E731 - of stages that are tried, not done
    dense = judge(model, of, "dense", silent)
    if dense is None:
        raise DataError(
            "there is nothing to judge it by",
            where=str(budget),
            hint="data with labels for testing: sec.prune(..., test=batches)",
        )

    def read(plan: Plan, small: nn.Module) -> tuple[float, float]:
        tried = deepcopy(small)
        repair(job, (model, tried), plan, of, silent)
        found = judge(tried, of, "search", silent)
        return dense.value, dense.value if found is None else found.value

    return Measured(budget, read)

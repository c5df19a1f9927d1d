"""Budgets that a job must measure, and the plan that keeps them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from typing import Any

from torch import nn

from secateur.allocate import COUNTED, Allocator, allocate
from secateur.cost import Prices, peak_memory_bytes
from secateur.errors import BudgetError, DataError
from secateur.measure import Dial, Measured, search
from secateur.pipeline.job import Job
from secateur.pipeline.layered import dial_of, stepped, useful
from secateur.pipeline.measuring import NOISE
from secateur.pipeline.packed import packed
from secateur.pipeline.progress import Progress, Report, silent
from secateur.pipeline.quantising import quantised
from secateur.pipeline.recovery import judge, repair
from secateur.pipeline.source import Source
from secateur.types.budget import Budget
from secateur.types.group import Groups
from secateur.types.plan import Plan
from secateur.types.scores import Scores

_REPAIRED = 0.01  # by which other weights of the same shapes may take more bytes


def decided(
    job: Job,
    network: tuple[nn.Module, Any],
    of: Source,
    groups: Groups,
    decides: tuple[Scores, Allocator],
    report: Report,
) -> Plan:
    """What stays, so that every budget holds: those that are counted, and those that are measured.

    Raises:
        BudgetError: they cannot be kept.
        DataError: accuracy is to be kept, and there is nothing to judge it by.
    """
    model, example = network
    scores, how = decides

    counted = [budget for budget in job.budgets if budget.quantity in COUNTED]
    others = [budget for budget in job.budgets if budget.quantity not in COUNTED]
    if not others:
        return allocate(groups, scores, how, counted or None)
    accurate = [b for b in others if b.quantity == "accuracy"]
    ceilings = [_ceiling(job, b, network, of) for b in others if b.quantity != "accuracy"]
    worth = _accuracy(max(accurate, key=_strictness), job, model, of) if accurate else None
    prices = _prices(job, model, example, groups, report)

    # the steps go by a latency, also where the counted budgets alone are asked for
    dense = () if prices is None else (Budget("latency", 1.0, relative=True),)

    def by(how: Allocator) -> Plan:
        report(Progress("search"))
        return search(
            model,
            lambda budgets: allocate(
                groups, scores, how, [*budgets, *dense] or None, prices=prices
            ),
            ceilings,
            worth,
            counted=counted,
            fine_tuned=job.finetune > 0,
            dial=Dial() if prices is None else dial_of(prices, groups, others, NOISE),
            tell=lambda done, seen: report(Progress("search", done, seen=seen)),
        )

    steps = None if prices is None else stepped(how)
    if steps is not None:
        with suppress(BudgetError):  # what the widths of the table cannot reach, others may
            return by(steps)
    return by(how)


def _prices(
    job: Job, model: nn.Module, example: Any, groups: Groups, report: Report
) -> Prices | None:
    """What the network's layers take, where a table is asked for and can say it."""
    if job.layers is None:
        return None
    prices = job.layers.prices(
        model, example, job.stopwatch, lambda done, of: report(Progress("layers", done, of))
    )
    return prices if useful(prices, groups) else None


def _strictness(budget: Budget) -> float:
    return budget.target


def _ceiling(job: Job, budget: Budget, network: tuple[nn.Module, Any], of: Source) -> Measured:
    """A budget on what a network costs: bytes, memory or latency."""
    model, example = network
    if budget.quantity == "bytes":
        return Measured(budget, _bundled(job, budget, model, of), _REPAIRED)
    if budget.quantity == "latency":
        return Measured(budget, _timed(job, model, example), NOISE, noisy=True)
    dense = float(peak_memory_bytes(model, example))
    return Measured(budget, lambda _, small: (dense, float(peak_memory_bytes(small, example))))


def _bundled(
    job: Job, budget: Budget, model: nn.Module, of: Source
) -> Callable[[Plan, nn.Module], tuple[float, float]]:
    """Both networks as bundles, the smaller one with the bits that it will have."""

    def read(plan: Plan, small: nn.Module) -> tuple[float, float]:
        tried = deepcopy(small)
        quantised(job, tried, of, silent)
        (dense, pruned), why = packed((model, tried), plan)
        if dense is None or pruned is None:
            raise BudgetError(
                f"cannot be measured: {why['unmeasured']['packed_bytes']}", where=str(budget)
            )
        return float(dense), float(pruned)

    return read


def _timed(
    job: Job, model: nn.Module, example: Any
) -> Callable[[Plan, nn.Module], tuple[float, float]]:
    """Both networks in one run, so that a busy machine slows them alike."""
    beside = job.stopwatch.against(model, example)

    def read(_: Plan, small: nn.Module) -> tuple[float, float]:
        dense, pruned = beside(small)
        return dense.median_s, pruned.median_s

    return read


def _accuracy(budget: Budget, job: Job, model: nn.Module, of: Source) -> Measured:
    """A budget on what a network is worth, after its repairs, and with the bits that it will have."""
    dense = judge(model, of, "dense", silent)
    if dense is None:
        raise DataError(
            "there is nothing to judge it by",
            where=str(budget),
            hint="data with labels for testing: --data DATA, or test=batches",
        )

    def read(plan: Plan, small: nn.Module) -> tuple[float, float]:
        tried = deepcopy(small)
        repair(job, (model, tried), plan, of, silent)
        quantised(job, tried, of, silent)
        found = judge(tried, of, "search", silent)
        return dense.value, dense.value if found is None else found.value

    return Measured(budget, read)

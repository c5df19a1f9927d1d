"""From a trained network to a smaller one: every stage, in order."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import nn

from secateur.allocate import COUNTED, Ranked, Tolerance, allocate
from secateur.errors import DataError, ModelError
from secateur.find import groups
from secateur.mask import certify, shrink
from secateur.mask.check import named_tensors
from secateur.mask.fill import filled
from secateur.pipeline.job import Job
from secateur.pipeline.measuring import measured
from secateur.pipeline.metered import decided
from secateur.pipeline.methods import Method
from secateur.pipeline.progress import Progress, Report
from secateur.pipeline.recovery import judge, recover
from secateur.pipeline.repairs import check_repairable
from secateur.pipeline.result import Result
from secateur.pipeline.scored import Scored
from secateur.pipeline.scoring import take
from secateur.pipeline.shelf import CERTIFICATE, LEARNED, MEASURES, PLAN, SCORES, Shelf
from secateur.pipeline.source import Source, calibration, epochs
from secateur.pipeline.stamp import fitting, stamped
from secateur.recipes import Learning, Question, Recipe
from secateur.types.budget import Budget
from secateur.types.group import Groups
from secateur.types.plan import Plan
from secateur.types.scores import Scores
from secateur.types.seed import derive


def carry_out(
    job: Job, model: nn.Module, example: Any, of: Source, shelf: Shelf, report: Report
) -> Result:
    """Do the job, taking from the shelf what it holds; the model is left as it was.

    Raises:
        SecateurError: of the kind that fits; see `prune`.
    """
    _check(job, model, of)
    with torch.random.fork_rng(devices=[]):
        scores, plan, whole = _decide(job, model, example, of, shelf, report)
        report(Progress("certify"))
        small = shrink(whole, plan).eval()
        certificate = shelf.keep(CERTIFICATE, lambda: certify(whole, small, plan, example))
        dense = judge(model, of, "dense", report)
        after = recover(job, (whole, small), plan, of, shelf, report)
        measures = shelf.keep(
            MEASURES, lambda: measured(job, (model, small), example, plan, dense, after, report)
        )
    return Result(small, plan, scores, certificate, measures)


def _check(job: Job, model: nn.Module, of: Source) -> None:
    """What can be known to fail before anything is done."""
    wanting = [
        what
        for what, needed in (
            ("fine-tuning needs data", job.finetune),
            (f"{_name(job.method)} cannot be scored without data", job.method.needs_data),
            (f"{', '.join(job.repairs)} needs data", job.repair_asked),
            ("calibrated rounding needs data", job.rounding == "calibrated"),
        )
        if needed
    ]
    if of.train is None and wanting:
        raise DataError(
            wanting[0],
            where="data",
            hint="--data demo:fashion-mini, or batches (x, y)",
        )
    if job.finetune and not any(parameter.requires_grad for parameter in model.parameters()):
        raise ModelError(
            "every parameter is frozen, so there is nothing to fine-tune",
            hint="model.requires_grad_(True), or leave finetune out",
        )


def _decide(
    job: Job, model: nn.Module, example: Any, of: Source, shelf: Shelf, report: Report
) -> tuple[Scores, Plan, nn.Module]:
    """Scores, the plan that follows from them, and the network that it is about."""

    @cache
    def found() -> Groups:
        report(Progress("groups"))
        every = groups(model, example, job.granularity)
        if job.repairs:
            check_repairable(every)
        counted = [budget for budget in job.budgets if budget.quantity in COUNTED]
        if counted and not _decides_soon(job.method):
            _try_budgets(job, every, counted)
        return every

    def noted(scores: Scores) -> Scores:
        return stamped(scores, model, job.granularity, found(), example)

    method = job.method
    if isinstance(method, Learning):
        learned = cache(lambda: method.learn(_question(job, model, found(), of, shelf, report)))
        scores = shelf.keep(SCORES, lambda: noted(learned().scores))
        plan = shelf.keep(PLAN, lambda: learned().plan)
        tensors = shelf.keep(LEARNED, lambda: named_tensors(learned().network))
        return scores, plan, filled(model, tensors)
    if isinstance(method, Recipe):
        answer = cache(lambda: method.decide(_question(job, model, found(), of, shelf, report)))
        scores = shelf.keep(SCORES, lambda: noted(answer()[0]))
        return scores, shelf.keep(PLAN, lambda: answer()[1]), model

    def scored() -> Scores:
        if isinstance(method, Scored):
            return fitting(method.scores, model, job.granularity, found(), example)
        return noted(take(job, method, model, found(), of, report))

    scores, allocator = shelf.keep(SCORES, scored), job.allocator or Ranked(method.by)
    plan = shelf.keep(
        PLAN, lambda: decided(job, (model, example), of, found(), (scores, allocator), report)
    )
    return scores, plan, model


def _decides_soon(method: Method | Recipe | Scored) -> bool:
    """Whether an unreachable budget is found out soon anyway, or not by ranking units."""
    return isinstance(method, Scored | Learning) or (
        isinstance(method, Method) and method.allocator is not None
    )


def _try_budgets(job: Job, every: Groups, counted: Sequence[Budget]) -> None:
    """Find out before scoring, which may be long, that a budget cannot be reached."""
    names = ["level"]
    if isinstance(job.method, Method):
        names = [saliency.name for saliency in job.method.saliencies]
    level = {group.name: torch.zeros(group.size) for group in every}
    how = job.allocator or Ranked(names[0])
    if isinstance(how, Tolerance):  # how much leaves at an alpha, only true scores can tell
        how = dataclasses.replace(how, alpha=None)
    allocate(every, Scores(dict.fromkeys(names, level)), how, counted)


def _question(
    job: Job,
    model: nn.Module,
    every: Groups,
    of: Source,
    shelf: Shelf,
    report: Report,
) -> Question:
    """What a recipe is asked; what it notes goes to the shelf."""
    torch.default_generator.manual_seed(derive(job.seed, "score"))  # of a loader that shuffles
    return Question(
        model,
        every,
        job.budgets,
        calibration(of, job.samples, job.seed),
        job.loss,
        job.seed,
        shelf.steps,
        epochs(of),
        shelf.learning,
        shelf.step,
        lambda what, done, of: report(Progress(what, done, of)),
    )


def _name(method: Method | Recipe | Scored) -> str:
    return type(method).__name__.lower() if isinstance(method, Recipe) else method.by

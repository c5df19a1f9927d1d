"""From a trained network to a smaller one: every stage, in order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from secateur.allocate import Ranked, allocate
from secateur.cost import latency
from secateur.errors import DataError, ModelError
from secateur.find import groups
from secateur.mask import certify, shrink
from secateur.mask.check import named_tensors
from secateur.measure import Accuracy, accuracy, measure, measures_json
from secateur.pipeline.fill import fill
from secateur.pipeline.job import Job
from secateur.pipeline.methods import Method
from secateur.pipeline.progress import Progress, Report, counting
from secateur.pipeline.result import Result
from secateur.pipeline.shelf import CERTIFICATE, MEASURES, MODEL, PLAN, SCORES, Shelf
from secateur.pipeline.source import Source, calibration, epochs, judging
from secateur.pipeline.tune import tune
from secateur.recipes import Question, Recipe
from secateur.recover import recalibrate
from secateur.saliency import score
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
        scores, plan = _decide(job, model, example, of, shelf, report)
        report(Progress("certify"))
        small = shrink(model, plan).eval()
        certificate = shelf.keep(CERTIFICATE, lambda: certify(model, small, plan, example))
        dense = _judge(model, of, "dense", report)
        reached = _recover(job, small, plan, of, shelf, report)
        measures = shelf.keep(
            MEASURES, lambda: _measure(job, (model, small), example, plan, (dense, reached), report)
        )
    return Result(small, plan, scores, certificate, measures)


def _check(job: Job, model: nn.Module, of: Source) -> None:
    """What can be known to fail before anything is done."""
    if of.train is None and (job.method.needs_data or job.finetune):
        raise DataError(
            "fine-tuning needs data"
            if job.finetune
            else f"{_name(job.method)} cannot be scored without data",
            where="data",
            hint="batches (x, y), or a text as demo:fashion-mini",
        )
    if job.finetune and not any(parameter.requires_grad for parameter in model.parameters()):
        raise ModelError(
            "every parameter is frozen, so there is nothing to fine-tune",
            hint="model.requires_grad_(True), or leave finetune out",
        )


def _decide(
    job: Job, model: nn.Module, example: Any, of: Source, shelf: Shelf, report: Report
) -> tuple[Scores, Plan]:
    """Scores, and the plan that follows from them."""

    @cache
    def found() -> Groups:
        report(Progress("groups"))
        every = groups(model, example, job.granularity)
        if job.budgets and not (isinstance(job.method, Method) and job.method.allocator):
            _try_budgets(job, every)
        return every

    method = job.method
    if isinstance(method, Method):
        scores = shelf.keep(SCORES, lambda: _score(job, method, model, found(), of, report))
        allocator = job.allocator or Ranked(method.by)
        return scores, shelf.keep(
            PLAN, lambda: allocate(found(), scores, allocator, job.budgets or None)
        )
    answer = cache(lambda: _ask(job, method, model, found(), of, shelf, report))
    return shelf.keep(SCORES, lambda: answer()[0]), shelf.keep(PLAN, lambda: answer()[1])


def _score(
    job: Job, method: Method, model: nn.Module, every: Groups, of: Source, report: Report
) -> Scores:
    data = calibration(of, job.samples, job.seed) if method.needs_data else None
    tell = counting(report, "score", _length(data))
    torch.default_generator.manual_seed(derive(job.seed, "score"))  # of a loader that shuffles
    return score(model, every, data, method.saliencies, loss=job.loss, progress=tell)


def _try_budgets(job: Job, every: Groups) -> None:
    """Find out before scoring, which may be long, that a budget cannot be reached."""
    by = job.method.by if isinstance(job.method, Method) else "level"
    level = {group.name: torch.zeros(group.size) for group in every}
    allocate(every, Scores({by: level}), job.allocator or Ranked(by), job.budgets)


def _ask(
    job: Job,
    recipe: Recipe,
    model: nn.Module,
    every: Groups,
    of: Source,
    shelf: Shelf,
    report: Report,
) -> tuple[Scores, Plan]:
    """Let a recipe decide; what it notes goes to the shelf."""
    question = Question(
        model,
        every,
        job.budgets,
        calibration(of, job.samples, job.seed),
        job.loss,
        job.seed,
        shelf.steps,
        shelf.step,
        lambda what, done, of: report(Progress(what, done, of)),
    )
    torch.default_generator.manual_seed(derive(job.seed, "score"))  # of a loader that shuffles
    return recipe.decide(question)


def _name(method: Method | Recipe) -> str:
    return method.by if isinstance(method, Method) else type(method).__name__.lower()


def _recover(
    job: Job, small: nn.Module, plan: Plan, of: Source, shelf: Shelf, report: Report
) -> dict[str, Accuracy]:
    """Recalibrate and fine-tune in place; accuracy after each stage."""
    reached = {"oneshot": _judge(small, of, "one-shot", report)}
    data = calibration(of, job.samples, job.seed) if job.recalibrate else None
    if data is not None:
        torch.default_generator.manual_seed(derive(job.seed, "recalibrate"))
        if recalibrate(small, data, progress=counting(report, "recalibrate", _length(data))):
            reached["recalibrated"] = _judge(small, of, "recalibrated", report)
    training = epochs(of) if job.finetune else None

    def final() -> Mapping[str, Tensor]:
        if training is not None:
            tune(small, plan, training, job, shelf.checkpoint, report)
        return named_tensors(small)

    fill(small, shelf.keep(MODEL, final))
    if training is not None:
        reached["finetuned"] = _judge(small, of, "fine-tuned", report)
    return {stage: value for stage, value in reached.items() if value is not None}


def _judge(model: nn.Module, of: Source, stage: str, report: Report) -> Accuracy | None:
    """Accuracy on the test part; None where there is none."""
    data = judging(of)
    if data is None:
        return None
    return accuracy(model, data, progress=counting(report, f"accuracy, {stage}", _length(data)))


def _measure(
    job: Job,
    models: tuple[nn.Module, nn.Module],
    example: Any,
    plan: Plan,
    accuracies: tuple[Accuracy | None, Mapping[str, Accuracy]],
    report: Report,
) -> Mapping[str, Any]:
    """The contents of `measures.json`; both networks are timed in one run."""
    report(Progress("latency"))
    times = latency(models, example)
    dense = measure(models[0], example, latency=times[0], accuracy=accuracies[0])
    pruned = measure(
        models[1], example, plan=plan, latency=times[1], accuracy=accuracies[1] or None
    )
    return measures_json(dense, pruned, job.budgets, plan)


def _length(data: Iterable[Any] | None) -> int | None:
    return len(data) if hasattr(data, "__len__") else None  # type: ignore[arg-type]

"""After the cut: what gives accuracy back, and what each of it gave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from secateur.mask.check import named_tensors
from secateur.mask.fill import fill
from secateur.measure import Accuracy, accuracy
from secateur.pipeline.job import Job
from secateur.pipeline.progress import Progress, Report, counting
from secateur.pipeline.quantising import quantised
from secateur.pipeline.repairs import REPAIRS
from secateur.pipeline.repairs import SAMPLES as FEW
from secateur.pipeline.shelf import FLOATS, MODEL, Shelf
from secateur.pipeline.source import Source, calibration, epochs, judging, length
from secateur.pipeline.tune import tune
from secateur.quantize import Rounded
from secateur.recover import Repaired, recalibrate
from secateur.types.plan import Plan
from secateur.types.seed import derive


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was done after the cut.

    Attributes:
        reached: accuracy after each stage; nothing where there is no test part.
        repaired: by the name of the repair.
        rounded: what quantising came to; None where weights stay floats.
    """

    reached: Mapping[str, Accuracy]
    repaired: Mapping[str, Repaired]
    rounded: Rounded | None = None


def recover(
    job: Job,
    models: tuple[nn.Module, nn.Module],
    plan: Plan,
    of: Source,
    shelf: Shelf,
    report: Report,
) -> Recovered:
    """Repair, recalibrate, fine-tune and quantise the smaller one in place."""
    small = models[1]
    reached = {"oneshot": judge(small, of, "one-shot", report)}

    def note(stage: str) -> None:
        reached[stage] = judge(small, of, stage, report)

    repaired = repair(job, models, plan, of, report, note)
    training = epochs(of) if job.finetune else None

    def final() -> Mapping[str, Tensor]:
        if training is not None:
            tune(small, plan, training, job, shelf.checkpoint, report)
        return named_tensors(small)

    fill(small, shelf.keep(MODEL if job.quantizer is None else FLOATS, final))
    if training is not None:
        reached["finetuned"] = judge(small, of, "fine-tuned", report)
    rounded = quantised(job, small, of, report)
    if rounded is not None:
        fill(small, shelf.keep(MODEL, lambda: named_tensors(small)))
        reached["quantized"] = judge(small, of, "quantised", report)
    judged = {stage: value for stage, value in reached.items() if value is not None}
    return Recovered(judged, repaired, rounded)


def repair(
    job: Job,
    models: tuple[nn.Module, nn.Module],
    plan: Plan,
    of: Source,
    report: Report,
    note: Callable[[str], None] = lambda _stage: None,
) -> dict[str, Repaired]:
    """All that needs no training, on the smaller one in place: repairs, and BatchNorm statistics.

    Args:
        note: told the name of each stage when it is done.
    """
    model, small = models
    repaired: dict[str, Repaired] = {}
    few = calibration(of, min(job.samples, FEW), job.seed)
    if few is not None:
        for name in job.repairs:
            report(Progress(name))
            torch.default_generator.manual_seed(derive(job.seed, name))  # of a loader that shuffles
            repaired[name] = REPAIRS[name](small, model, plan, few)
            note(name)
    data = calibration(of, job.samples, job.seed) if _recalibrates(job, repaired) else None
    if data is not None:
        torch.default_generator.manual_seed(derive(job.seed, "recalibrate"))
        if recalibrate(small, data, progress=counting(report, "recalibrate", length(data))):
            note("recalibrated")
    return repaired


def _recalibrates(job: Job, repaired: Mapping[str, Repaired]) -> bool:
    """What the caller says; else unless least squares made layers answer as before."""
    solved = repaired.get("least_squares")
    return (not solved or not solved.changed) if job.recalibrate is None else job.recalibrate


def judge(model: nn.Module, of: Source, stage: str, report: Report) -> Accuracy | None:
    """Accuracy on the test part; None where there is none."""
    data = judging(of)
    if data is None:
        return None
    return accuracy(model, data, progress=counting(report, f"accuracy, {stage}", length(data)))

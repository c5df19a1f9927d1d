"""Fine-tuning that can be killed: after every epoch its state goes to a file."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secateur.pipeline.job import Job
from secateur.pipeline.progress import Progress, Report
from secateur.recover import SGD, finetune
from secateur.recover.checkpoint import Checkpoint
from secateur.recover.epochs import Epochs
from secateur.recover.optimizer import Parameters
from secateur.types.plan import Plan
from secateur.types.seed import derive


def tune(
    model: nn.Module,
    plan: Plan,
    data: Iterable[Any],
    job: Job,
    checkpoint: Path | None,
    report: Report,
) -> None:
    """Fine-tune in place, from where the checkpoint stands if there is one.

    Args:
        plan: its masked units stay zero; what it cut out is gone already.

    Raises:
        FileError: the checkpoint is damaged or cannot be written.
    """
    before = None
    if checkpoint is not None and checkpoint.exists():
        before = Checkpoint.load(checkpoint, job.finetune)
        before.restore(model)
    done = 0 if before is None else before.epochs
    if done == job.finetune:
        return
    ends, optimizer = count(done + 1), _Remembering(before)

    def ended() -> None:
        epoch = next(ends)
        if checkpoint is not None and optimizer.built is not None:
            Checkpoint.of(epoch, model, optimizer.built).save(checkpoint)

    removable = any(group.removable for group in plan.groups)
    steps = finetune(
        model,
        Epochs(data, lambda: None, ended),
        epochs=range(done, job.finetune),
        optimizer=optimizer,
        plan=None if removable else plan,
        loss=job.loss,
        seed=derive(job.seed, "finetune"),
    )
    report(Progress("finetune", 0))
    for step in steps:
        of = step.of and step.of * job.finetune
        report(Progress("finetune", step.epoch * (step.of or 0) + step.step + 1, of))


class _Remembering:
    """SGD that can be looked at once it is built, and goes on where it was."""

    def __init__(self, before: Checkpoint | None) -> None:
        self._before = before
        self.built: torch.optim.Optimizer | None = None

    def build(self, parameters: Parameters) -> torch.optim.Optimizer:
        self.built = SGD().build(parameters)
        if self._before is not None:
            self._before.resume(self.built)
        return self.built

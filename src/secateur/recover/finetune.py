"""Fine-tuning: the ordinary way back to the accuracy that pruning cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from secateur.errors import DataError, ModelError, OptionError
from secateur.recover.loop import Objective, Step
from secateur.recover.loop import train as loop
from secateur.recover.optimizer import SGD, Optimizer
from secateur.recover.remask import remask
from secateur.recover.schedule import Cosine, Schedule
from secateur.recover.teacher import Teacher
from secateur.types.batches import Batch
from secateur.types.loss import Loss, loss_of
from secateur.types.plan import Plan

_SGD = SGD()
_COSINE = Cosine()


def finetune(
    model: nn.Module,
    train: Iterable[Any],
    *,
    epochs: int | range,
    optimizer: Optimizer = _SGD,
    schedule: Schedule = _COSINE,
    teacher: nn.Module | Teacher | None = None,
    plan: Plan | None = None,
    loss: Loss = F.cross_entropy,
    seed: int = 0,
) -> Iterator[Step]:
    """Train the network in place; the caller drives it.

        for step in sec.finetune(small, train, epochs=3, teacher=model): ...

    Only parameters that are not frozen learn. Between steps the network is in the mode it was given
    in, so it may be evaluated there. Arguments are checked when this is called, not at the first
    step.

    Args:
        train: batches (x, y), read once an epoch; x alone will do with a teacher of `share=1.0`.
        epochs: how many; a range goes on in the middle of a run that ends at its stop.
        teacher: a network to imitate, usually the dense one; a bare network is `Teacher(network)`.
        plan: what this plan removes is zero after every step. For a network that is masked, not
            shrunk.
        loss: mean over the samples of a batch.
        seed: of dropout and of a shuffling DataLoader without a generator of its own.

    Raises:
        DataError: the data is empty, not finite, or does not fit, or cannot be read every epoch.
        ModelError: every parameter is frozen, or the loss is no longer finite.
        OptionError: an option makes no sense.
        PlanError: the plan is of another network, or of this one before it was shrunk.
    """
    which = range(epochs) if isinstance(epochs, int) else epochs
    if not which:
        raise OptionError(f"must be at least 1, not {epochs}", where="epochs")
    if len(which) > 1 and isinstance(train, Iterator):
        raise DataError(
            "can be read only once, and there are several epochs",
            where="train",
            hint="give a list or a DataLoader",
        )
    free = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not free:
        raise ModelError("every parameter is frozen", hint="model.requires_grad_(True)")
    if isinstance(teacher, nn.Module):
        teacher = Teacher(teacher)
    if teacher is not None and teacher.model is model:
        raise OptionError("the network cannot teach itself", where="teacher", hint="copy it first")
    clean = None if plan is None else remask(model, plan)
    if clean is not None:
        clean()
    return loop(
        model,
        train,
        _objective(teacher, loss),
        optimizer.build(free),
        epochs=which,
        schedule=schedule,
        seed=seed,
        after=clean,
    )


def _objective(teacher: Teacher | None, loss: Loss) -> Objective:
    """The loss on the labels, the distance to the teacher, or both."""

    def labelled(output: Any, batch: Batch) -> Tensor:
        if batch.y is None:
            raise DataError(
                "has no labels",
                where=batch.where,
                hint="give (x, y), or Teacher(model, share=1.0)",
            )
        return loss_of(output, batch.y, loss, batch.where)

    if teacher is None:
        return labelled
    share, distance = teacher.share, teacher.distance

    def taught(output: Any, batch: Batch) -> Tensor:
        imitation = share * distance(output, batch.x, batch.where)
        return imitation if share == 1.0 else imitation + (1.0 - share) * labelled(output, batch)

    return taught

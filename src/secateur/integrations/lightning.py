"""Masks that learn in a Lightning training; extra `lightning`.

A module whose network has gates, and its trainer:

    class Net(L.LightningModule):
        def __init__(self, gated):
            super().__init__()
            self.net, self.gated = gated.model, gated

        def configure_optimizers(self):
            return torch.optim.Adam(self.gated.parameter_groups(), lr=1e-3)

    L.Trainer(max_epochs=90, callbacks=[LearnMasks(Course(gated))]).fit(Net(gated), loader)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from secateur.errors import OptionError
from secateur.extras import missing
from secateur.learn.course import Course, as_course
from secateur.learn.history import History

try:
    from lightning.pytorch import Callback
except (ImportError, RuntimeError):
    try:
        from pytorch_lightning import Callback
    except (ImportError, RuntimeError) as error:
        raise missing("pytorch_lightning", "lightning", error) from error


class LearnMasks(Callback):
    """Sets the temperature of every epoch, adds the penalty at every step, and records each epoch.

    The numbers of each record go to the trainer's loggers, and a ModelCheckpoint may monitor them:
    "masks/<group>/confidence". The penalty joins the gradient before clipping, once a step of the
    optimiser that holds the logits, however many batches a step accumulates. What is recorded is in
    the trainer's checkpoints; a resumed training draws the masks that it would have drawn.

    Attributes:
        history: of the epochs that are done. Its loss is the mean of the steps', without the penalty.
    """

    def __init__(self, course: Course) -> None:
        """A course that nobody else drives."""
        self._course = as_course(course)
        self._losses: list[Tensor] = []

    @property
    def history(self) -> History:
        """The epochs that are done."""
        return self._course.history

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Refuse a training in which masks cannot learn.

        Raises:
            OptionError: the number of epochs is unknown, the logits are in no optimiser, or decay.
        """
        if trainer.max_epochs is None or trainer.max_epochs < 1:
            raise OptionError(
                "the temperature follows the epochs, and their number is unknown",
                where="Trainer",
                hint="Trainer(max_epochs=90)",
            )
        self._course.check(trainer.optimizers)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Set the temperature."""
        self._losses.clear()
        self._course.begin(trainer.current_epoch, trainer.max_epochs)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Optimizer) -> None:
        """Add the gradient of the penalty; gradients are unscaled by now."""
        if self._course.trained_by(optimizer):
            self._course.penalise()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the loss; Lightning gives it divided by the number of batches a step accumulates."""
        loss = outputs.get("loss") if isinstance(outputs, dict) else None
        if isinstance(loss, Tensor):
            self._losses.append(loss.detach() * trainer.accumulate_grad_batches)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Record the epoch."""
        mean = float(torch.stack(self._losses).double().mean()) if self._losses else None
        epoch = self._course.end(mean)
        pl_module.log_dict(epoch.scalars())

    def state_dict(self) -> dict[str, Any]:
        """The record, as plain values."""
        return self._course.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the record of a checkpoint."""
        self._course.load_state_dict(state_dict)

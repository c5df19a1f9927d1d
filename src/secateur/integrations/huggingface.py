"""Masks that learn in a training by transformers' Trainer; extra `hf`.

    optimizer = torch.optim.AdamW(gated.parameter_groups(), lr=5e-5)
    trainer = Trainer(
        gated.model, arguments, train_dataset=data,
        optimizers=(optimizer, None), callbacks=[LearnMasks(Course(gated))],
    )

The Trainer's own optimiser would let the logits decay, so it is refused.
"""

from __future__ import annotations

import sys
from typing import Any

from torch.optim import Optimizer

from secateur.errors import OptionError
from secateur.extras import missing
from secateur.learn.course import Course, as_course
from secateur.learn.history import History

try:
    from transformers import TrainerCallback
except (ImportError, RuntimeError) as error:
    raise missing("transformers", "hf", error) from error

_KEY = "secateur.integrations.huggingface"


class LearnMasks(TrainerCallback):
    """Sets the temperature of every epoch, adds the penalty at every step, and records each epoch.

    The penalty joins the gradient after clipping, as the Trainer asks its callbacks last. With fp16,
    leave `max_grad_norm` above zero: clipping is what unscales the gradients in some versions. What is
    recorded is in the `trainer_state.json` of every checkpoint; a resumed training draws the masks that
    it would have drawn.

    Attributes:
        history: of the epochs that are done. Its loss is the mean of what the Trainer logged.
    """

    def __init__(self, course: Course) -> None:
        """A course that nobody else drives."""
        self._course = as_course(course)
        self._losses: list[float] = []
        self._open = False  # an epoch was begun and is not recorded

    @property
    def history(self) -> History:
        """The epochs that are done."""
        return self._course.history

    def on_train_begin(
        self, args: Any, state: Any, control: Any, *, optimizer: Optimizer, **kwargs: Any
    ) -> None:
        """Refuse a training in which masks cannot learn; go on with the record of a checkpoint.

        Raises:
            OptionError: the number of epochs is unknown, the logits are in no optimiser, or decay.
        """
        if state.num_train_epochs >= sys.maxsize:
            raise OptionError(
                "the temperature follows the epochs, and their number is unknown",
                where="Trainer",
                hint="a data set with a length",
            )
        self._course.check([optimizer])
        saved = state.stateful_callbacks.get(_KEY)
        if saved is not None:
            self._course.load_state_dict(saved["attributes"])

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Set the temperature; a training resumed in the middle of an epoch goes on with that epoch."""
        self._losses.clear()
        self._course.begin(int(state.epoch), state.num_train_epochs)
        self._open = True

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Add the gradient of the penalty."""
        self._course.penalise()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Record the epoch after its last step: before a checkpoint of that step is written."""
        if float(state.epoch).is_integer():
            self._record(state)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Record an epoch that was cut short."""
        self._record(state)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any], **kwargs: Any
    ) -> None:
        """Note the loss, which the Trainer may log only after the epoch."""
        if "loss" not in logs:
            return
        self._losses.append(float(logs["loss"]))
        if not self._open:
            self._course.learned(sum(self._losses) / len(self._losses))
            self._keep(state)

    def _record(self, state: Any) -> None:
        if self._open:
            self._open = False
            self._course.end(sum(self._losses) / len(self._losses) if self._losses else None)
            self._keep(state)

    def _keep(self, state: Any) -> None:
        """Where the Trainer keeps what callbacks want to find again."""
        state.stateful_callbacks[_KEY] = {"args": {}, "attributes": self._course.state_dict()}

"""The training loop, as a generator that its caller drives."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from operator import length_hint
from typing import Any

import torch
from torch import Tensor, nn

from secateur.errors import ModelError
from secateur.recover.schedule import Schedule
from secateur.recover.stream import Stream
from secateur.types.batches import Batch, batches
from secateur.types.call import device_of, run
from secateur.types.untouched import mode

Objective = Callable[[Any, Batch], Tensor]
"""(output of the network, batch) → one number, the mean over the batch's samples."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an optimiser, just taken."""

    epoch: int  # from 0
    step: int  # in this epoch, from 0
    of: int | None  # steps in an epoch; None where the data does not say
    loss: float  # before the step, mean over its batch
    lr: float

    @property
    def last(self) -> bool:
        """Whether the epoch ends here; False where the data does not say its length."""
        return self.of is not None and self.step + 1 == self.of


def train(
    model: nn.Module,
    data: Iterable[Any],
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    *,
    epochs: range,
    schedule: Schedule,
    seed: int = 0,
    after: Callable[[], None] | None = None,
) -> Iterator[Step]:
    """Train in place, one yield a step.

    Between steps the network is in the mode it was given in and torch's generators are the
    caller's, so it may be evaluated or saved at any yield. Every epoch draws from a stream of its
    own: with the weights and the optimiser's state of the end of epoch k, `epochs=range(k + 1, n)`
    goes on as if it had never stopped.

    Args:
        epochs: which to run; its stop is the length of the whole run, for the schedule.
        schedule: scales the learning rate that the optimiser has at the start, `initial_lr`.
        after: called after every step.

    Raises:
        DataError: the data is empty, not finite, or does not fit the network.
        ModelError: the loss is no longer finite; the step that would spread it is not taken.
    """
    stream = Stream(seed, device_of(model))
    for settings in optimizer.param_groups:
        settings.setdefault("initial_lr", settings["lr"])
    of = length_hint(data) or None
    for epoch in epochs:
        stream.restart(epoch)
        source = batches(data, device_of(model))
        for step in count():
            with stream.active():  # a shuffling loader draws from it
                batch = next(source, None)
            if batch is None:
                break
            done = (epoch + (step / of if of else 0.0)) / epochs.stop
            for settings in optimizer.param_groups:
                settings["lr"] = settings["initial_lr"] * schedule.factor(done)
            with stream.active(), mode(model, training=True), torch.enable_grad():
                loss = _step(model, batch, objective, optimizer, f"epoch {epoch}, {batch.where}")
                if after is not None:
                    after()
            yield Step(epoch, step, of, loss, optimizer.param_groups[0]["lr"])


def _step(
    model: nn.Module,
    batch: Batch,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    where: str,
) -> float:
    """One step; gradients are gone afterwards."""
    optimizer.zero_grad()
    loss = objective(run(model, batch.x, where), batch)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise ModelError(f"the loss became {value}", where=where, hint="a smaller learning rate")
    torch.autograd.backward(loss)
    optimizer.step()
    optimizer.zero_grad()
    return value

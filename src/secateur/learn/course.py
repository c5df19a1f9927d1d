"""What gates need around a training, whoever writes the loop."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch.optim import Optimizer

from secateur.errors import OptionError
from secateur.learn.gates import Gated, as_gated
from secateur.learn.history import Epoch, History, finite
from secateur.learn.information import information
from secateur.learn.penalty import EntropyPenalty
from secateur.learn.settled import settle, unsettle
from secateur.learn.temperature import LinearDecay, Temperature

_DECAY, _PENALTY = LinearDecay(), EntropyPenalty()


class Course:
    """A temperature at every epoch, a penalty at every step, and a record of what became of the masks.

        course = Course(gated)
        course.check([optimizer])
        for epoch in range(epochs):
            course.begin(epoch, epochs)
            for x, y in batches:
                loss(gated.model(x), y).backward()
                course.penalise()
                optimizer.step()
                optimizer.zero_grad()
            course.end()

    Attributes:
        gated: the network.
        history: what was recorded so far.
    """

    def __init__(
        self,
        gated: Gated,
        *,
        temperature: Temperature = _DECAY,
        penalty: EntropyPenalty = _PENALTY,
        settle: float = 0.0,
        draws: int = 100,
        seed: int = 0,
    ) -> None:
        """Begin without a record.

        Args:
            temperature: of every epoch.
            penalty: what entropy costs.
            settle: share of the epochs, at their end, in which nothing is drawn: each row keeps its
                k highest logits, and these do not move.
            draws: behind the inclusion probabilities of every record; see `information`.
            seed: of these draws, the same in every epoch, so that curves do not jitter.
        """
        gated = as_gated(gated, "Course")
        if draws < 1:
            raise OptionError(f"{draws} draws say nothing", where="draws", hint="draws=100")
        if not 0.0 <= settle < 1.0:
            raise OptionError(
                f"settle={settle} is no share below one", where="Course", hint="settle=0.25"
            )
        self.gated, self.history = gated, History()
        self._temperature, self._penalty = temperature, penalty
        self._settle, self._draws, self._seed = settle, draws, seed
        self._samplers = {name: gate.sampler for name, gate in gated.gates.items()}
        self._settled = False
        self._epoch: tuple[int, float] | None = None
        self._drawn = 0

    def check(self, optimizers: Iterable[Optimizer]) -> None:
        """Every gate's logits are trained, and no weight decay pulls at them.

        Raises:
            OptionError: they are not, or one does.
        """
        decay = {
            id(parameter): group.get("weight_decay", 0.0)
            for optimizer in optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        for name, gate in self.gated.gates.items():
            found = decay.get(id(gate.logits))
            if found != 0.0:
                what = "are in no optimiser" if found is None else f"have weight_decay={found}"
                raise OptionError(
                    f"the logits of its gate {what}",
                    where=name,
                    hint="build the optimiser on gated.parameter_groups()",
                )

    def trained_by(self, optimizer: Optimizer) -> bool:
        """Whether it steps the logits."""
        known = {id(p) for group in optimizer.param_groups for p in group["params"]}
        return any(id(gate.logits) in known for gate in self.gated.gates.values())

    def begin(self, epoch: int, epochs: int) -> None:
        """Set the temperature of epoch 0, 1, ..., epochs - 1; settle where it is time."""
        temperature = self._temperature.at(epoch, epochs)
        self.gated.set_temperature(temperature)
        self._settle_or_not(epoch >= epochs - math.floor(self._settle * epochs + 1e-9))
        self._epoch, self._drawn = (epoch, temperature), self._draws_so_far()

    def _settle_or_not(self, now: bool) -> None:
        if now is self._settled:
            return
        for name, gate in self.gated.gates.items():
            if now:
                settle(gate)
            else:
                unsettle(gate, self._samplers[name])
        self._settled = now

    def penalise(self) -> None:
        """Add the gradient of the penalty to that of the logits: once a step, before the optimiser's.

        Where gradients are scaled, as by a `GradScaler`, unscale them first.
        """
        with torch.enable_grad():
            penalty = self._penalty.of(self.gated)
        if penalty.requires_grad:
            penalty.backward()

    def end(self, loss: float | None = None) -> Epoch:
        """Record the epoch that was begun.

        Args:
            loss: mean training loss, the penalty left out.

        Raises:
            OptionError: none was begun, or no mask was drawn since.
        """
        if self._epoch is None:
            raise OptionError("no epoch was begun", where="Course.end", hint="course.begin(0, 90)")
        if self._draws_so_far() == self._drawn:
            raise OptionError(
                "no mask was drawn in this epoch",
                where="Course.end",
                hint="call gated.model itself in train mode; calls of its parts need gated.redraw()",
            )
        masks = information(self.gated, draws=self._draws, seed=self._seed)
        epoch, temperature = self._epoch
        found = Epoch(epoch, temperature, finite(loss), masks)
        self.history = self.history.then(found)
        return found

    def _draws_so_far(self) -> int:
        return sum(int(gate.draws) for gate in self.gated.gates.values())

    def learned(self, loss: float) -> None:
        """The loss of the epoch that was recorded last, where it was not known before."""
        last = self.history.epochs[-1]
        self.history = self.history.then(replace(last, loss=finite(loss)))

    def state_dict(self) -> dict[str, Any]:
        """Plain JSON values: the record. Gates keep their own state in that of the network."""
        return self.history.to_json()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`.

        Raises:
            FileError: the state is something else.
        """
        self.history = History.from_json(state, "state of the masks")


def as_course(value: object) -> Course:
    """A course, for whoever is given one.

    Raises:
        OptionError: it is something else.
    """
    if not isinstance(value, Course):
        raise OptionError(
            f"a course was expected, found {type(value).__name__}",
            where="course",
            hint="Course(gated)",
        )
    return value

"""How soft the relaxed draws are, over a training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from secateur.errors import OptionError


class Temperature(Protocol):
    """The temperature of every epoch."""

    def at(self, epoch: int, epochs: int) -> float:
        """In epoch 0, 1, ..., epochs - 1; above 0."""
        ...


@dataclass(frozen=True, slots=True)
class LinearDecay:
    """From `start` in the first epoch to `end` in the last, and never below.

        tau(e) = start * (1 - e * (1 - end / start) / (E - 1))

    Source: the authors' code of Dynamic Probabilistic Pruning, arXiv 2105.12686: 5.0 down to 0.5.
    Its layers count steps where its formula means epochs; here they are epochs.
    """

    start: float = 5.0
    end: float = 0.5

    def __post_init__(self) -> None:
        numbers = all(isinstance(each, int | float) for each in (self.start, self.end))
        if not numbers or not 0.0 < self.end <= self.start < float("inf"):
            raise OptionError(
                f"from {self.start} down to {self.end} is no way for a temperature",
                where="LinearDecay",
                hint="LinearDecay(start=5.0, end=0.5)",
            )

    def at(self, epoch: int, epochs: int) -> float:
        """The temperature in this epoch."""
        done = min(epoch / (epochs - 1), 1.0) if epochs > 1 else 1.0
        return max(self.start * (1.0 - done * (1.0 - self.end / self.start)), self.end)

"""What the oracle minimises: the loss itself, or its increase for each weight that goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@runtime_checkable
class Objective(Protocol):
    """A value for each candidate; the lowest one is removed."""

    @property
    def weighs(self) -> bool:
        """Whether it asks how many weights go."""
        ...

    def value(self, loss: float, present: float, removed: int) -> float:
        """A straight line in `loss`, rising.

        Args:
            loss: mean loss without the candidate.
            present: mean loss of the network as it is, on the same samples.
            removed: parameters that go with the candidate; 0 where the objective does not weigh.
        """
        ...


@dataclass(frozen=True, slots=True)
class LowestLoss(Objective):
    """The mean loss without the candidate, as in the paper."""

    @property
    def weighs(self) -> bool:
        """No."""
        return False

    def value(self, loss: float, present: float, removed: int) -> float:
        """The loss."""
        return loss


@dataclass(frozen=True, slots=True)
class LossPerWeight(Objective):
    """How much the mean loss rises for each parameter that is removed.

    With the plain loss a unit that takes many weights along competes with one that takes few.
    """

    @property
    def weighs(self) -> bool:
        """Yes."""
        return True

    def value(self, loss: float, present: float, removed: int) -> float:
        """(loss - present) / removed."""
        return (loss - present) / max(removed, 1)

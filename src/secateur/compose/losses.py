"""The question that the oracle asks for its candidates, and its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from secateur.compose.candidates import Candidate, Masks
from secateur.compose.expected import Expected
from secateur.compose.objective import Objective


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """What is the mean loss without each candidate?

    Attributes:
        masks: what is left now.
        rows: which samples of the pool to measure on, int64 (samples,); all candidates on the same.
        removed: parameters that go with each candidate; zeros where the objective does not weigh.
        fresh: the group that has just lost its first unit, where there is one.
        proven: groups known to be measured alike by the fast and the plain way.
        plain: groups known to need the plain way.
        expected: what earlier steps say of each candidate; empty where nothing is known of any.
    """

    masks: Masks
    candidates: Sequence[Candidate]
    rows: Tensor
    objective: Objective
    removed: Sequence[int]
    fresh: str | None = None
    proven: frozenset[str] = frozenset()
    plain: frozenset[str] = frozenset()
    expected: Sequence[Expected | None] = ()


@dataclass(frozen=True, slots=True)
class Measured:
    """One candidate's loss; `Tried` says what the fields mean."""

    loss: float
    samples: int
    out: bool = False
    spread: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """Attributes:
    present: mean loss of the network as it is.
    measured: one for each candidate; at least one is not out.
    proven, plain: groups of which it was found in this step.
    """

    present: float
    measured: tuple[Measured, ...]
    proven: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()


class Losses(Protocol):
    """Something that knows the true loss."""

    @property
    def pool(self) -> int:
        """How many samples there are to draw from."""
        ...

    def measure(self, question: Question) -> Answer:
        """The losses; the network is left as it was, bit for bit.

        Raises:
            DataError: the network does not run on the samples, or a loss is not finite.
        """
        ...

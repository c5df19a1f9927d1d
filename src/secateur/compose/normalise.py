"""Normalisations: what brings different saliencies to one scale.

One of one's own is a short class:

    @dataclass(frozen=True, slots=True)
    class Standardised(Normalisation):
        label: ClassVar[str] = "standardised"

        def scale(self, values: Tensor) -> Tensor:
            return (values - values.mean()) / values.std().clamp_min(1e-12)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from secateur.compose.rows import checked
from secateur.compose.scope import Scope, check_scope, over
from secateur.errors import OptionError, ScoreError


@dataclass(frozen=True, slots=True)
class Normalisation(ABC):
    """A rule that never turns the order of two units round.

    Attributes:
        scope: which units are normalised together. `Scope.GROUP` makes groups of different scale
            alike; `Scope.NETWORK` keeps what one saliency says about the groups. It should be the
            scope in which units compete.
    """

    scope: Scope = Scope.GROUP

    label: ClassVar[str]  # how it is called where a formula is printed
    signed: ClassVar[bool] = True  # False: scores below zero make no sense to it

    def __post_init__(self) -> None:
        check_scope(self, self.scope)

    @abstractmethod
    def scale(self, values: Tensor) -> Tensor:
        """The normalised values: float64 (n,) → float64 (n,), with n at least 1."""

    def __call__(self, scores: Mapping[str, Tensor], who: object = "") -> dict[str, Tensor]:
        """Normalise one saliency's scores.

        Args:
            scores: group name → (n,), read as float32.
            who: the saliency they are of, for the error.

        Returns:
            group name → float64 (n,).

        Raises:
            ScoreError: scores are not finite, or below zero where that makes no sense.
        """
        rows = checked(scores, who)
        for name, row in rows.items():
            if not self.signed and bool((row < 0).any()):
                raise ScoreError(
                    f"a score is below zero, and {self.label} needs scores from zero up",
                    where=f"{who}, {name}" if who else name,
                    hint="MinMax() and Rank() take scores of any sign",
                )
        return over(self.scope, self._scaled, {name: row.double() for name, row in rows.items()})

    def _scaled(self, values: Tensor) -> Tensor:
        return self.scale(values) if len(values) else values

    def __str__(self) -> str:
        return f"{self.label} {self.scope.value}"


def check_normalisation(owner: object, how: object) -> None:
    """Raise `OptionError` for what is no normalisation."""
    if not isinstance(how, Normalisation):
        made = isinstance(how, type) and issubclass(how, Normalisation)
        raise OptionError(
            f"{how.__name__ if isinstance(how, type) else repr(how)} is no normalisation",
            where=type(owner).__name__,
            hint=f"{how.__name__}() makes one of the class"
            if isinstance(how, type) and made
            else "MinMax(), MaxAbs(), Rank(), Share() or AsIs(), with a scope where it matters",
        )


def each_normalised(
    parts: Sequence[object], rows: Sequence[Mapping[str, Tensor]], how: Normalisation
) -> list[dict[str, Tensor]]:
    """The row of each part, normalised by itself.

    Raises:
        ScoreError: as the normalisation raises, naming the part.
    """
    return [how(row, part) for part, row in zip(parts, rows, strict=True)]


@dataclass(frozen=True, slots=True)
class MinMax(Normalisation):
    """(x - min) / (max - min): the lowest becomes 0, the highest 1; all 0 where all are equal.

    One unit far above the rest presses the others together near 0; `Rank` does not mind.
    """

    label: ClassVar[str] = "min-max"

    def scale(self, values: Tensor) -> Tensor:
        """In [0, 1]."""
        low, high = values.aminmax()
        return (values - low) / (high - low) if high > low else torch.zeros_like(values)


@dataclass(frozen=True, slots=True)
class MaxAbs(Normalisation):
    """x / max |x|: keeps zero, signs and ratios; all 0 where all are 0."""

    label: ClassVar[str] = "max-abs"

    def scale(self, values: Tensor) -> Tensor:
        """In [-1, 1]."""
        largest = values.abs().max()
        return values / largest if largest > 0 else torch.zeros_like(values)


@dataclass(frozen=True, slots=True)
class Rank(Normalisation):
    """r / (N - 1), with r the number of units that score strictly lower.

    Equal scores have equal ranks, the lowest rank is 0, and only the order of the scores counts: no
    strictly increasing function of them changes anything.
    """

    label: ClassVar[str] = "rank"

    def scale(self, values: Tensor) -> Tensor:
        """In [0, 1]."""
        _, level, times = values.unique(return_inverse=True, return_counts=True)
        lower = (times.cumsum(0) - times)[level]
        return torch.div(lower.double(), max(len(values) - 1, 1))


@dataclass(frozen=True, slots=True)
class Share(Normalisation):
    """x / sum of x, for scores from zero up: all shares add up to 1; all 0 where all are 0."""

    label: ClassVar[str] = "share"
    signed: ClassVar[bool] = False

    def scale(self, values: Tensor) -> Tensor:
        """In [0, 1]."""
        total = values.sum()
        return values / total if total > 0 else torch.zeros_like(values)


@dataclass(frozen=True, slots=True)
class AsIs(Normalisation):
    """No normalisation: the scores are of one scale already. The scope plays no part."""

    scope: Scope = Scope.NETWORK

    label: ClassVar[str] = "as it is"

    def scale(self, values: Tensor) -> Tensor:
        """Unchanged."""
        return values

    def __str__(self) -> str:
        return self.label

"""A unit is worth what its best advocate says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.compose.composable import Composable, Composed, inner, parts_of
from secateur.compose.normalise import MinMax, Normalisation, check_normalisation, each_normalised
from secateur.compose.rows import aligned, checked

_MIN_MAX = MinMax()


@dataclass(frozen=True, slots=True, init=False)
class BestOf(Composed):
    """The maximum of normalised parts: what is kept matters to at least one of them.

        s = max_i  normalised(s_i)

    A part with few units far above the rest seldom is the highest under `MinMax`; with `Rank` all
    parts speak equally often.
    """

    parts: tuple[Composable, ...]
    normalisation: Normalisation

    def __init__(self, *parts: Composable, normalisation: Normalisation = _MIN_MAX) -> None:
        object.__setattr__(self, "parts", parts_of(self, parts, least=2))
        object.__setattr__(self, "normalisation", normalisation)
        check_normalisation(self, normalisation)

    def normalised(self, how: Normalisation) -> BestOf:
        """The same with another normalisation of its parts."""
        return BestOf(*self.parts, normalisation=how)

    def combine(self, scores: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The maximum."""
        rows = each_normalised(self.parts, aligned(self.parts, scores), self.normalisation)
        best = {group: torch.stack([row[group] for row in rows]).amax(0) for group in rows[0]}
        return checked(best, self)

    def __str__(self) -> str:
        return f"best of {', '.join(map(inner, self.parts))}, each {self.normalisation}"

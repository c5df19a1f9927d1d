"""What the logits are before the first step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from secateur.errors import OptionError, ScoreError
from secateur.types.group import Group
from secateur.types.seed import derive


class Start(Protocol):
    """A way to begin."""

    def logits(self, group: Group, rows: Tensor, seed: int) -> Tensor:
        """float32 of the shape of `rows`, int64 (rows, n): the units of each row."""
        ...


@dataclass(frozen=True, slots=True)
class Normal:
    """Independent normal numbers.

    Attributes:
        std: None for 0.5 where units are weights, and 1 elsewhere, as the authors of Dynamic
            Probabilistic Pruning have it (arXiv 2105.12686, their code).
    """

    std: float | None = None

    def __post_init__(self) -> None:
        if self.std is not None and not 0.0 <= self.std < math.inf:
            raise OptionError(f"std={self.std}", where="Normal", hint="std=1.0")

    def logits(self, group: Group, rows: Tensor, seed: int) -> Tensor:
        """Drawn from a stream that belongs to the group."""
        std = self.std if self.std is not None else 0.5 if group.kind == "weight" else 1.0
        generator = torch.Generator().manual_seed(derive(seed, "logits", group.name))
        return std * torch.randn(rows.shape, generator=generator)


@dataclass(frozen=True, slots=True, eq=False)
class FromScores:
    """The scores of a trained network's units, standardised in every row.

    Attributes:
        scores: group → (units,); higher is more worth keeping.
        spread: standard deviation of the logits in a row. At 1, Gumbel noise still changes many
            choices; at 5, few.
    """

    scores: Mapping[str, Tensor]
    spread: float = 1.0

    def logits(self, group: Group, rows: Tensor, seed: int) -> Tensor:
        """spread * (score - mean) / deviation; zero in a row of equal scores.

        Raises:
            ScoreError: the group has no scores, or not one finite score a unit.
        """
        given = self.scores.get(group.name)
        if given is None or given.shape != (group.size,) or not bool(given.isfinite().all()):
            raise ScoreError(
                "needs one finite score a unit to begin with",
                where=group.name,
                hint='scores of the same groups by one saliency: FromScores(scores["magnitude"])',
            )
        values = given.float().cpu()[rows]
        centred = values - values.mean(1, keepdim=True)
        deviation = centred.square().mean(1, keepdim=True).sqrt()
        return self.spread * centred / deviation.clamp_min(torch.finfo(torch.float32).tiny)

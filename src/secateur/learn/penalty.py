"""How much certainty is worth."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from secateur.errors import OptionError
from secateur.learn.gates import Gated


@dataclass(frozen=True, slots=True)
class EntropyPenalty:
    """mu times the sum of the entropies of all rows, in nats; added to the task's mean loss.

    It is a sum, not a mean, so its strength grows with the number of rows, as in the authors' code
    of Dynamic Probabilistic Pruning (arXiv 2105.12686).

    Attributes:
        mu: None for theirs: 5e-5 where units are weights, 1e-5 for kernels, 5e-3 for channels.
    """

    mu: float | None = None

    def __post_init__(self) -> None:
        if self.mu is not None and not 0.0 <= self.mu < math.inf:
            raise OptionError(f"mu={self.mu}", where="EntropyPenalty", hint="mu=1e-5; 0 for none")

    def of(self, gated: Gated) -> Tensor:
        """The penalty, (), differentiable in the logits."""
        kind = next(group.kind for group in gated.groups if group.name in gated.gates)
        mu = self.mu if self.mu is not None else _THEIRS.get(kind, _CHANNELS)
        return mu * gated.entropy()


_THEIRS = {"weight": 5e-5, "kernel": 1e-5}
_CHANNELS = 5e-3

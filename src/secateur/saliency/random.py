"""Random scores: what every saliency must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from secateur.saliency.need import Need
from secateur.saliency.protocol import Saliency, Seen, State
from secateur.types.group import Group
from secateur.types.seed import derive


@dataclass(frozen=True, slots=True)
class Random(Saliency):
    """Uniform in [0, 1), drawn per group from its name: the order of the groups does not matter."""

    seed: int = 0

    needs: ClassVar[frozenset[Need]] = frozenset()

    def start(self, group: Group) -> State:
        """Nothing to remember."""
        return {}

    def observe(self, state: State, seen: Seen) -> State:
        """Nothing to see."""
        return state

    def finish(self, state: State, group: Group) -> Tensor:
        """Equal seeds and names give equal scores on every machine."""
        generator = torch.Generator().manual_seed(derive(self.seed, "random", group.name))
        return torch.rand(group.size, generator=generator)

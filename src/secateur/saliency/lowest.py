"""Lowest: coupled channels leave as soon as one of them would."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.saliency import apart
from secateur.saliency.need import Need
from secateur.saliency.portions import producers
from secateur.saliency.protocol import Collector, Saliency, Seen, State
from secateur.types.group import Group


@dataclass(frozen=True, slots=True)
class Lowest(Saliency):
    """The least of a saliency over the layers that write a unit.

        s(c) = min_{c' in Src(c)} s_out(c')

    This is pruning by channel, which takes no notice of what is coupled: every layer's channel has
    a score of its own, and the lowest of all leaves and takes the channels coupled with it along.
    What `Domino` is compared with.

    Source: Persand et al., Domino Saliency Metrics: Improving Existing Channel Saliency Metrics with
    Structural Information, arXiv 2205.02131 (the baseline, "channel saliency").

    Args:
        base: any single saliency; compositions are put together outside.
    """

    base: Saliency

    def __post_init__(self) -> None:
        apart.check_leaf(self.base, "Lowest")

    @property
    def averages(self) -> bool:
        """As the base."""
        return self.base.averages

    @property
    def needs(self) -> frozenset[Need | Collector]:
        """What the base needs."""
        return self.base.needs

    def start(self, group: Group) -> State:
        """A state of the base for each layer."""
        return apart.start(self.base, producers(group))

    def observe(self, state: State, seen: Seen) -> State:
        """Let the base look at each layer."""
        return apart.observe(self.base, producers(seen.group), state, seen)

    def finish(self, state: State, group: Group) -> Tensor:
        """The minimum."""
        portions = producers(group)
        values = apart.finish(self.base, portions, state)
        parts = [p.spread(v, group.size, math.inf) for p, v in zip(portions, values, strict=True)]
        return torch.stack(parts).amin(0)

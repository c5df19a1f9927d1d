"""Mean squared weights: units whose weights are small on average matter least."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from secateur.saliency.filters import filters
from secateur.saliency.need import Need
from secateur.saliency.protocol import Saliency, Seen, State
from secateur.types.group import Group, Member
from secateur.types.kept import per_unit


@dataclass(frozen=True, slots=True)
class MeanSquaredWeights(Saliency):
    """The mean of the squares of the unit's weights.

        s = sum w^2 / (active inputs * kh * kw)   over the weights w of the unit's filters

    Inputs that are pruned do not count. They show themselves in the weights: a mask makes every
    weight that reads a removed channel zero, so what is counted are the positions of a filter
    (input channel and place in the kernel) where not all filters of the tensor are exactly zero.
    Scores therefore change when layers before are pruned. A unit without any active position
    scores 0. Units of coupled layers: squares and counts are added over all of their filters.

    Source: Persand et al., Composition of Saliency Metrics for Channel Pruning with a Myopic
    Oracle, arXiv 2004.03376, eq. 1.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS})
    averages: ClassVar[bool] = True

    def start(self, group: Group) -> State:
        """Sum of squares, and number of weights at active positions, per unit."""
        return {
            "sum": torch.zeros(group.size, dtype=torch.float64),
            "weights": torch.zeros(group.size, dtype=torch.float64),
        }

    def observe(self, state: State, seen: Seen) -> State:
        """Add the weights once more: both sums grow, their ratio stays."""
        total, count = state["sum"], state["weights"]
        for member in filters(seen.group):
            weights = seen.weights(member).double()
            total = total + per_unit(weights.square(), member, seen.group.size)
            count = count + per_unit(_active(weights, member), member, seen.group.size)
        return {"sum": total, "weights": count}

    def finish(self, state: State, group: Group) -> Tensor:
        """The mean."""
        return state["sum"] / state["weights"].clamp(min=1.0)


def _active(weights: Tensor, member: Member) -> Tensor:
    """1.0 at the positions of a filter where some filter of the tensor is not zero."""
    live = (weights != 0).any(dim=member.dims, keepdim=True)
    return live.to(torch.float64).expand_as(weights)

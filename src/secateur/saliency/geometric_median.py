"""Geometric median: a filter in the middle of the others can be done without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from secateur.saliency.filters import filters
from secateur.saliency.need import Need
from secateur.saliency.protocol import Saliency, Seen, State
from secateur.types.group import Group, Member

_ENTRIES = 1 << 22  # of the distance matrix at a time: 32 MiB


@dataclass(frozen=True, slots=True)
class GeometricMedian(Saliency):
    """FPGM: the sum of the distances to all other filters of the layer.

        s = sum ||f - f'||_2   over the filters f of the unit and all filters f' of f's layer

    The filter with the least sum is the nearest to the layer's geometric median, and the others
    can best stand in for it. A filter is the slice of a weight at one index of the pruned dims; a
    unit that holds several (in coupled layers, or as one channel of a grouped convolution) scores
    their sum. Filters that are fixed are among the others too. Between single weights the distance
    is |w - w'|. Time grows with the square of the number of filters, for single weights as n log n.

    Source: He et al., Filter Pruning via Geometric Median for Deep Convolutional Neural Networks
    Acceleration, CVPR 2019.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS})

    def start(self, group: Group) -> State:
        """Sum of distances per unit, and how often it was taken."""
        return {
            "sum": torch.zeros(group.size, dtype=torch.float64),
            "times": torch.zeros((), dtype=torch.float64),
        }

    def observe(self, state: State, seen: Seen) -> State:
        """Add the distances once more."""
        total = state["sum"].clone()
        for member in filters(seen.group):
            sums = _distances(_rows(seen.weights(member).double(), member))
            owned = member.unit_of >= 0
            unit_of = member.unit_of[owned].to(total.device)
            total.index_add_(0, unit_of, sums[owned.to(total.device)])
        return {"sum": total, "times": state["times"] + 1.0}

    def finish(self, state: State, group: Group) -> Tensor:
        """The sum; weights seen several times (by several ranks) count once."""
        return state["sum"] / state["times"]


def _rows(tensor: Tensor, member: Member) -> Tensor:
    """A tensor of the member's shape as one row per index of its dims."""
    return tensor.movedim(member.dims, tuple(range(len(member.dims)))).reshape(
        member.unit_of.numel(), -1
    )


def _distances(rows: Tensor) -> Tensor:
    """Of each row the sum of its distances to all rows: (n, d) -> (n,)."""
    if rows.shape[1] == 1:
        return _differences(rows[:, 0])
    step = max(1, _ENTRIES // len(rows))
    exact = "donot_use_mm_for_euclid_dist"  # by products, equal rows would lie apart
    return torch.cat(
        [torch.cdist(part, rows, compute_mode=exact).sum(1) for part in rows.split(step)]
    )


def _differences(values: Tensor) -> Tensor:
    """As `_distances` for rows of one number, by sorting."""
    order = values.argsort()
    ordered = values[order]
    below, count = ordered.cumsum(0) - ordered, len(values)
    rank = torch.arange(count, dtype=values.dtype, device=values.device)
    above = ordered.sum() - below - ordered
    sums = torch.empty_like(values)
    sums[order] = ordered * rank - below + above - ordered * (count - 1 - rank)
    return sums

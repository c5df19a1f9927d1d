"""Mean activation: channels that hardly fire matter least."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from secateur.saliency.need import Need
from secateur.saliency.protocol import Saliency, Seen, State
from secateur.types.group import Group


@dataclass(frozen=True, slots=True)
class MeanActivation(Saliency):
    """The mean size of what the unit puts out.

        s = sum |a| / (N * H * W)   over N samples and H * W positions

    a is the activation as the next layer reads it, after normalisation and activation function. A
    unit that several layers write is the mean over all of their activations.

    Source: Persand et al., Composition of Saliency Metrics for Channel Pruning with a Myopic
    Oracle, arXiv 2004.03376, eq. 2; as a criterion of pruning in Molchanov et al., ICLR 2017.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.ACTIVATIONS})
    averages: ClassVar[bool] = True

    def start(self, group: Group) -> State:
        """Sum of |a|, and number of elements, per unit."""
        return {
            "sum": torch.zeros(group.size, dtype=torch.float64),
            "elements": torch.zeros(group.size, dtype=torch.float64),
        }

    def observe(self, state: State, seen: Seen) -> State:
        """Add one batch at one place."""
        site = seen.site
        return {
            "sum": state["sum"] + site.absolute,
            "elements": state["elements"] + site.count,
        }

    def finish(self, state: State, group: Group) -> Tensor:
        """The mean."""
        return state["sum"] / state["elements"]

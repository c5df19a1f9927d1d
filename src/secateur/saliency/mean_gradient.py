"""Mean gradient: channels that the loss does not listen to matter least."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from secateur.saliency.need import Need
from secateur.saliency.protocol import Saliency, Seen, State
from secateur.types.group import Group


@dataclass(frozen=True, slots=True)
class MeanGradient(Saliency):
    """The mean size of the loss's gradient at the output of the layer that writes the unit.

        s = sum_n | sum_hw g | / (N * H * W)   over N samples and H * W positions

    g is the derivative of one sample's loss for the layer's own output, before normalisation and
    activation function. Positions are summed before the absolute value is taken, samples after. A
    unit that several layers write is the mean over all of their outputs.

    Source: Persand et al., Composition of Saliency Metrics for Channel Pruning with a Myopic
    Oracle, arXiv 2004.03376, eq. 3.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.OUTPUT_GRADIENTS})
    averages: ClassVar[bool] = True

    def start(self, group: Group) -> State:
        """Sum over the samples, and number of elements, per unit."""
        return {
            "sum": torch.zeros(group.size, dtype=torch.float64),
            "elements": torch.zeros(group.size, dtype=torch.float64),
        }

    def observe(self, state: State, seen: Seen) -> State:
        """Add one batch at one place."""
        site = seen.site
        return {
            "sum": state["sum"] + site.gradient.abs().sum(0),
            "elements": state["elements"] + site.count,
        }

    def finish(self, state: State, group: Group) -> Tensor:
        """The mean."""
        return state["sum"] / state["elements"]

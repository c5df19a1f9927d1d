"""Taylor, activation form: how much a sample's loss would change, to first order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from secateur.saliency.need import Need
from secateur.saliency.protocol import Saliency, Seen, State
from secateur.types.group import Group


@dataclass(frozen=True, slots=True)
class ActivationTaylor(Saliency):
    """First-order change of each sample's loss when the unit's activation becomes zero.

        s = sum_n | sum_hw a * g | / (N * H * W)   over N samples and H * W positions

    a is the activation as the next layer reads it, g the derivative of the sample's loss at the
    same place; pooling changes nothing in their sum, and H * W are the positions of the layer's own
    output. Unlike the weight form (`Taylor`) the absolute value is taken sample by sample, so
    changes of opposite sign do not cancel. A unit that several layers write is the mean over all of
    their activations.

    Source: Molchanov et al., Pruning Convolutional Neural Networks for Resource Efficient
    Inference, ICLR 2017; eq. 5 of the myopic oracle, Persand et al., arXiv 2004.03376.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.ACTIVATION_GRADIENTS})
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
            "sum": state["sum"] + site.taylor.abs().sum(0),
            "elements": state["elements"] + site.produced,
        }

    def finish(self, state: State, group: Group) -> Tensor:
        """The mean."""
        return state["sum"] / state["elements"]

"""Fisher information: how much the loss would rise without the unit, to second order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from secateur.saliency.need import Need
from secateur.saliency.protocol import Saliency, Seen, State
from secateur.types.group import Group


@dataclass(frozen=True, slots=True)
class Fisher(Saliency):
    """Empirical Fisher information of a gate on the unit, from the gradients of single samples.

        s = 1 / (2N)  sum_n ( sum_hw a * g )^2   over N samples and H * W positions

    a is the activation as the next layer reads it, g the derivative of the sample's loss at the
    same place. The square is taken sample by sample, whatever the batches; `BatchFisher` is the
    form that squares what a batch adds up to. A unit that several layers write is the mean over all
    of their activations.

    Source: Theis et al., Faster gaze prediction with dense networks and Fisher pruning, arXiv
    1801.05787; eq. 6 of the myopic oracle, Persand et al., arXiv 2004.03376.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.ACTIVATION_GRADIENTS})

    def start(self, group: Group) -> State:
        """Sum of squares, and number of samples, per unit."""
        return {
            "sum": torch.zeros(group.size, dtype=torch.float64),
            "samples": torch.zeros(group.size, dtype=torch.float64),
        }

    def observe(self, state: State, seen: Seen) -> State:
        """Add one batch at one place."""
        site = seen.site
        return {
            "sum": state["sum"] + site.taylor.square().sum(0),
            "samples": state["samples"] + site.samples,
        }

    def finish(self, state: State, group: Group) -> Tensor:
        """Half the mean."""
        return state["sum"] / (2 * state["samples"])

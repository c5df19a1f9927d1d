"""APoZ: channels that are mostly zero matter least."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from secateur.saliency.need import Need
from secateur.saliency.protocol import Saliency, Seen, State
from secateur.types.group import Group


@dataclass(frozen=True, slots=True)
class APoZ(Saliency):
    """One minus the average percentage of zeros: the share of elements that are not zero.

        s = 1 - (number of elements a = 0) / (N * H * W)   over N samples and H * W positions

    The paper prunes what has MOST zeros; here, as everywhere, a higher score means keep. a is the
    activation as the next layer reads it. It says something only behind an activation function that
    gives exact zeros, as ReLU does: behind others every unit scores 1. A unit that several layers
    write is the mean over all of their activations.

    Source: Hu et al., Network Trimming: A Data-Driven Neuron Pruning Approach towards Efficient
    Deep Architectures, arXiv 1607.03250.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.ACTIVATIONS})
    averages: ClassVar[bool] = True

    def start(self, group: Group) -> State:
        """Number of elements that are not zero, and of all, per unit."""
        return {
            "alive": torch.zeros(group.size, dtype=torch.float64),
            "elements": torch.zeros(group.size, dtype=torch.float64),
        }

    def observe(self, state: State, seen: Seen) -> State:
        """Add one batch at one place."""
        site = seen.site
        return {
            "alive": state["alive"] + (site.count - site.zeros),
            "elements": state["elements"] + site.count,
        }

    def finish(self, state: State, group: Group) -> Tensor:
        """The share, in [0, 1]."""
        return state["alive"] / state["elements"]

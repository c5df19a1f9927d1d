"""The batch form of Fisher information: squares of what a batch adds up to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from secateur.saliency.need import Need
from secateur.saliency.protocol import Saliency, Seen, State
from secateur.types.group import Group


@dataclass(frozen=True, slots=True)
class BatchFisher(Saliency):
    """As `Fisher`, but squared batch by batch.

        s = 1 / (2N)  sum_batches ( sum_n sum_hw a * g )^2   over all N samples of all batches

    This is what one gets from the gradient of a whole batch, as several published programs do. It is
    no estimate of the Fisher information: samples of opposite sign cancel before they are squared,
    and THE SCORES DEPEND ON HOW THE DATA IS CUT INTO BATCHES. With batches of one sample it equals
    `Fisher`. Compare scores only for equal batches.

    Source: Theis et al., arXiv 1801.05787, with the gradients of batches in place of those of
    samples.
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
            "sum": state["sum"] + site.taylor.sum(0).square(),
            "samples": state["samples"] + site.samples,
        }

    def finish(self, state: State, group: Group) -> Tensor:
        """Half the sum, by the number of samples."""
        return state["sum"] / (2 * state["samples"])

"""Taylor: how much the loss would change, to first order, without the unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from secateur.saliency.need import Need
from secateur.saliency.protocol import Saliency, Seen, State
from secateur.types.group import Group
from secateur.types.kept import per_unit, written


@dataclass(frozen=True, slots=True)
class Taylor(Saliency):
    """First-order change of the mean loss when the unit's weights become zero (weight form).

        s = | 1/N  sum_samples  sum_w  w * dL/dw |   over the unit's weights and biases w

    The sum is signed; its absolute value is taken once, at the very end. For a single weight this
    is |w * g| with g the gradient of the mean loss. For a convolution or linear layer followed by
    ReLU it equals the activation form, sum of a * dL/da. Measured in eval mode: with batch
    statistics a filter's scale does not matter to the loss, and the sum would be zero.

    Source: Molchanov et al., Importance Estimation for Neural Network Pruning, CVPR 2019; the
    signed sum as in the Reconstruction Score of FAIR-Pruner (Lin et al., arXiv 2508.02291).
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.GRADIENTS})

    def start(self, group: Group) -> State:
        """Signed sum of w * g per unit, and the number of samples."""
        return {
            "sum": torch.zeros(group.size, dtype=torch.float64),
            "samples": torch.zeros((), dtype=torch.float64),
        }

    def observe(self, state: State, seen: Seen) -> State:
        """Add one batch."""
        total = state["sum"]
        for member in written(seen.group):
            products = seen.weights(member) * seen.gradients(member)
            total = total + per_unit(products, member, seen.group.size)
        return {"sum": total, "samples": state["samples"] + seen.samples}

    def finish(self, state: State, group: Group) -> Tensor:
        """Absolute value of the mean."""
        return (state["sum"] / state["samples"]).abs()

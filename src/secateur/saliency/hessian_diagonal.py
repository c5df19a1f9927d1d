"""Hessian diagonal: how much the loss would bend without the unit."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.errors import OptionError
from secateur.saliency.curvature import Curvature
from secateur.saliency.need import Need
from secateur.saliency.protocol import Collector, Saliency, Seen, State
from secateur.types.group import Group
from secateur.types.kept import per_unit, written


@dataclass(frozen=True, slots=True)
class HessianDiagonal(Saliency):
    """Second-order change of the mean loss when the unit's weights become zero, one by one.

        s = 1/N  sum_samples  sum_w  1/2 * w^2 * d^2 L / dw^2   over the unit's weights and biases

    The sum is signed: where the loss bends downwards, a unit scores below zero and leaves early.
    The second derivatives are Hutchinson's estimate, whose error falls with the root of `probes`;
    each probe takes as long as two to three passes forward and backward. Probes are the same for
    every batch. They belong to places in the tensors, so that a network with permuted channels gets
    the same scores only as far as the estimate is exact.

    Source: LeCun et al., Optimal Brain Damage, NeurIPS 1989; estimated as in Hutchinson, 1990.

    Args:
        probes: how many random directions.
        seed: which ones.
    """

    probes: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.probes < 1:
            raise OptionError(
                f"probes must be at least 1, not {self.probes}", where="HessianDiagonal"
            )

    @property
    def needs(self) -> frozenset[Need | Collector]:
        """The weights, and what the loss does around them."""
        return frozenset({Need.WEIGHTS, Curvature(self.probes, self.seed)})

    def start(self, group: Group) -> State:
        """Sum of 1/2 w^2 h per unit, and the number of samples."""
        return {
            "sum": torch.zeros(group.size, dtype=torch.float64),
            "samples": torch.zeros((), dtype=torch.float64),
        }

    def observe(self, state: State, seen: Seen) -> State:
        """Add one batch."""
        total = state["sum"]
        bends = seen.collected(Curvature(self.probes, self.seed))
        for member in written(seen.group):
            if member.name in bends:  # running statistics have no derivative
                changes = 0.5 * seen.weights(member).double().square() * bends[member.name]
                total = total + per_unit(changes, member, seen.group.size)
        return {"sum": total, "samples": state["samples"] + seen.samples}

    def finish(self, state: State, group: Group) -> Tensor:
        """The mean."""
        return state["sum"] / state["samples"]

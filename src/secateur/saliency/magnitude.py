"""Magnitude: units with small weights matter least."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from secateur.errors import OptionError
from secateur.saliency.filters import filters
from secateur.saliency.need import Need
from secateur.saliency.protocol import Saliency, Seen, State
from secateur.types.group import Group
from secateur.types.kept import per_unit


@dataclass(frozen=True, slots=True)
class Magnitude(Saliency):
    """The p-norm of what produces the unit.

        s = (sum |w|^p)^(1/p)   over the weights w of the unit, in all tensors that write it

    Biases and gains (tensors of one dim) do not count, unless the unit has nothing else. For
    coupled layers the norm runs over all of their filters together.

    Source: Han et al., Learning both Weights and Connections, NeurIPS 2015 (single weights, p = 1);
    Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017 (filters, p = 1).
    """

    p: int = 2

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS})

    def __post_init__(self) -> None:
        if self.p not in (1, 2):
            raise OptionError(f"p must be 1 or 2, not {self.p}", where="Magnitude")

    def start(self, group: Group) -> State:
        """Sum of |w|^p per unit, and how often it was taken."""
        return {
            "sum": torch.zeros(group.size, dtype=torch.float64),
            "times": torch.zeros((), dtype=torch.float64),
        }

    def observe(self, state: State, seen: Seen) -> State:
        """Add the weights once more."""
        total = state["sum"]
        for member in filters(seen.group):
            powers = seen.weights(member).double().abs().pow(self.p)
            total = total + per_unit(powers, member, seen.group.size)
        return {"sum": total, "times": state["times"] + 1.0}

    def finish(self, state: State, group: Group) -> Tensor:
        """The norm; weights seen several times (by several ranks) count once."""
        return (state["sum"] / state["times"]).pow(1.0 / self.p)

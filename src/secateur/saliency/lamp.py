"""LAMP: magnitude, measured against what would be left of the layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from secateur.saliency.filters import filters
from secateur.saliency.need import Need
from secateur.saliency.protocol import Saliency, Seen, State
from secateur.types.group import Group
from secateur.types.kept import per_unit


@dataclass(frozen=True, slots=True)
class LAMP(Saliency):
    """LAMP: the squared weight, as a share of all in its layer that are not smaller.

        s(u) = |w_u|^2 / sum |w_v|^2   over the units v of the group with |w_v| >= |w_u|

    |w_u|^2 is the squared weight where units are single weights, and the sum of squares of the
    unit's filters where they are larger. The largest unit of every group scores 1 (or 1/k if k are
    as large), so a global ranking never empties a group before all others are down to one unit.
    Equal units score equally. In a group of zeros all score 0.

    Source: Lee et al., Layer-adaptive Sparsity for the Magnitude-based Pruning, ICLR 2021.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS})

    def start(self, group: Group) -> State:
        """Sum of squares per unit, and how often it was taken."""
        return {
            "sum": torch.zeros(group.size, dtype=torch.float64),
            "times": torch.zeros((), dtype=torch.float64),
        }

    def observe(self, state: State, seen: Seen) -> State:
        """Add the squares once more."""
        total = state["sum"]
        for member in filters(seen.group):
            squares = seen.weights(member).double().square()
            total = total + per_unit(squares, member, seen.group.size)
        return {"sum": total, "times": state["times"] + 1.0}

    def finish(self, state: State, group: Group) -> Tensor:
        """Each square as a share of all that are not smaller."""
        squares = state["sum"] / state["times"]
        ordered = squares.sort().values
        not_smaller = ordered.flip(0).cumsum(0).flip(0)[torch.searchsorted(ordered, squares)]
        return torch.where(squares > 0, squares / not_smaller, 0.0)

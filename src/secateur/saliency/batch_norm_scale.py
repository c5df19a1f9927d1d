"""BatchNorm scale: a channel whose gain is small says little."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from secateur.errors import ScoreError
from secateur.saliency.need import Need
from secateur.saliency.protocol import Saliency, Seen, State
from secateur.types.group import Group, Member, Role
from secateur.types.kept import per_unit


@dataclass(frozen=True, slots=True)
class BatchNormScale(Saliency):
    """The size of the gain of the BatchNorm that a channel passes through.

        s = mean |gamma|   over all gains of the unit, one for each BatchNorm that it passes

    A BatchNorm brings every channel to variance 1 before it multiplies by gamma, so |gamma| is the
    standard deviation that the channel leaves with. Hence only gains of a norm with running
    statistics count (`X.weight` beside `X.running_var`); a LayerNorm's do not say this.

    Source: Liu et al., Learning Efficient Convolutional Networks through Network Slimming, ICCV
    2017 (there gammas are also trained with an L1 penalty).

    Raises:
        ScoreError: a unit passes through no BatchNorm; the group is named.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS})

    def start(self, group: Group) -> State:
        """Sum of |gamma| per unit, and how many there were."""
        held = torch.zeros(group.size + 1, dtype=torch.bool)
        for member in gains(group):
            held[member.unit_of] = True
        without = group.size - int(held[:-1].sum())
        if without:
            raise ScoreError(
                f"{without} of {group.size} {group.kind}s pass through no BatchNorm",
                where=group.name,
                hint="keep these layers, or take another saliency: sec.Magnitude()",
            )
        return {
            "sum": torch.zeros(group.size, dtype=torch.float64),
            "gains": torch.zeros(group.size, dtype=torch.float64),
        }

    def observe(self, state: State, seen: Seen) -> State:
        """Add the gains once more: both sums grow, their ratio stays."""
        total, count = state["sum"], state["gains"]
        for member in gains(seen.group):
            gamma = seen.weights(member).double().abs()
            total = total + per_unit(gamma, member, seen.group.size)
            count = count + per_unit(torch.ones_like(gamma), member, seen.group.size)
        return {"sum": total, "gains": count}

    def finish(self, state: State, group: Group) -> Tensor:
        """The mean."""
        return state["sum"] / state["gains"]


def gains(group: Group) -> tuple[Member, ...]:
    """The members that are gains of norms with running statistics."""
    scaling = [member for member in group.members if member.role is Role.SCALES]
    normed = {
        member.name.removesuffix("running_var")
        for member in scaling
        if member.name.rpartition(".")[2] == "running_var"
    }
    return tuple(
        member
        for member in scaling
        if member.name.rpartition(".")[2] == "weight"
        and member.name.removesuffix("weight") in normed
    )

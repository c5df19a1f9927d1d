"""Cut what a plan removes out of a copy of the network."""

from __future__ import annotations

from torch import nn

from secateur.errors import PlanError
from secateur.mask.carve import carve
from secateur.mask.check import check_fits
from secateur.mask.cut import cut_of
from secateur.types.kept import kept
from secateur.types.plan import Plan


def shrink(model: nn.Module, plan: Plan) -> nn.Module:
    """A smaller plain copy of the network; the model itself is untouched.

    Channels are cut out of every parameter and buffer, and size attributes follow. Units that are whole
    modules leave the list that holds them, and those behind move up. Units that can only be masked are
    set to zero. An `nn.MultiheadAttention` whose heads no longer add up to its width becomes a
    `secateur.attention.MultiheadAttention`, which is one, with the same parameters.

    Raises:
        PlanError: the plan does not fit the network, or removes nothing.
        ModelError: the network cannot be copied.
    """
    check_fits(model, plan)
    if plan.removed == 0:
        raise PlanError("the plan removes nothing", hint="is the budget met already?")
    zero = {g.name: plan.masks[g.name] for g in plan.groups if not g.removable}
    return carve(model, cut_of(plan), kept(plan.groups, zero, only_masked=True))

"""Keeping masked weights at exactly zero while the rest is trained."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from secateur.errors import PlanError
from secateur.types.call import device_of
from secateur.types.kept import as_mask, kept
from secateur.types.plan import Plan


def remask(model: nn.Module, plan: Plan) -> Callable[[], None]:
    """A function that writes zero to every element of every member that the plan removes.

    Raises:
        PlanError: the plan is about tensors of other names or shapes.
    """
    own = dict(model.named_buffers()) | dict(model.named_parameters())
    device = device_of(model)
    pairs = []
    for name, by_dims in kept(plan.groups, plan.masks, only_masked=True).items():
        shape = plan.groups.shapes[name]
        if name not in own or tuple(own[name].shape) != tuple(shape):
            found = f"shape {tuple(own[name].shape)}" if name in own else "no such tensor"
            raise PlanError(
                f"the plan says shape {tuple(shape)}, the network has {found}",
                where=name,
                hint="a network that was shrunk, or is masked already, is tuned without plan=",
            )
        pairs.append((own[name], ~as_mask(by_dims, shape).to(device)))

    def apply() -> None:
        with torch.no_grad():
            for tensor, removed in pairs:
                tensor.masked_fill_(removed, 0)

    return apply

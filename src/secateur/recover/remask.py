"""Keeping masked weights at exactly zero while the rest is trained."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from secateur.mask.check import check_fits, named_tensors
from secateur.types.kept import as_mask, kept
from secateur.types.plan import Plan


def remask(model: nn.Module, plan: Plan) -> Callable[[], None]:
    """A function that writes zero to every element of every member that the plan removes.

    Raises:
        PlanError: the plan is about tensors of other names or shapes.
    """
    check_fits(model, plan)
    tensors = named_tensors(model)
    pairs = []
    for name, by_dims in kept(plan.groups, plan.masks, only_masked=True).items():
        removed = ~as_mask(by_dims, plan.groups.shapes[name])
        pairs.append((tensors[name], removed.to(tensors[name].device)))

    def apply() -> None:
        with torch.no_grad():
            for tensor, removed in pairs:
                tensor.masked_fill_(removed, 0)

    return apply

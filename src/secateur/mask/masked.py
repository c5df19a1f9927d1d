"""Put a plan on a network, and take it off again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from secateur.mask.check import check_fits, named_tensors
from secateur.mask.copies import hollow_copy, replace_tensors
from secateur.types.kept import as_mask, kept
from secateur.types.plan import Plan


@contextmanager
def masked(model: nn.Module, plan: Plan) -> Iterator[nn.Module]:
    """Multiply every member, readers too, by its mask; leaving restores the model bit for bit.

    Values are written in place, so shared tensors, functional uses and parametrisations all see them.
    Whatever else is written into a masked tensor inside the block is lost on leaving.

    Raises:
        PlanError: the plan does not fit the network.
    """
    check_fits(model, plan)
    saved = mask_in_place(model, plan)
    try:
        yield model
    finally:
        with torch.no_grad():
            for tensor, values in saved:
                tensor.copy_(values)


def mask_in_place(model: nn.Module, plan: Plan) -> list[tuple[Tensor, Tensor]]:
    """Set to zero everything that the plan removes; returns the tensors with their old values."""
    tensors = named_tensors(model)
    saved = []
    with torch.no_grad():
        for name, by_dims in kept(plan.groups, plan.masks, only_masked=True).items():
            mask = as_mask(by_dims, tuple(tensors[name].shape))
            if not bool(mask.all()):
                saved.append((tensors[name], tensors[name].clone()))
                # Not a product: 0 * inf would be NaN, and -1 * 0 would be -0.
                tensors[name].masked_fill_(~mask.to(tensors[name].device), 0)
    return saved


def masked_copy(model: nn.Module, plan: Plan) -> nn.Module:
    """A masked copy of the network, which shares with it every tensor that has no mask."""
    check_fits(model, plan)
    twin, tensors = hollow_copy(model)
    masks = kept(plan.groups, plan.masks, only_masked=True)
    names = {id(tensor): name for name, tensor in named_tensors(model).items()}
    hidden: dict[int, Tensor] = {}
    for key, tensor in tensors.items():
        by_dims = masks.get(names.get(key, ""))
        if by_dims is not None:
            mask = as_mask(by_dims, tuple(tensor.shape)).to(tensor.device)
            values = tensor.detach().masked_fill(~mask, 0)
            hidden[key] = nn.Parameter(values) if isinstance(tensor, nn.Parameter) else values
    replace_tensors(twin, hidden)
    return twin

"""Put a plan on a network, and take it off again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from secateur.mask.check import check_fits, named_tensors
from secateur.mask.copies import copy_with
from secateur.mask.gates import close_gates, closing_names, low
from secateur.types.kept import as_mask, kept
from secateur.types.plan import Plan


@contextmanager
def masked(model: nn.Module, plan: Plan) -> Iterator[nn.Module]:
    """Multiply every member, readers too, by its mask; leaving restores the model bit for bit.

    Values are written in place, so shared tensors, functional uses and parametrisations all see them.
    Gates of masked units are closed by a hook. Whatever else is written into a masked tensor inside the
    block is lost on leaving.

    Raises:
        PlanError: the plan does not fit the network.
    """
    check_fits(model, plan)
    closed = close_gates(model, plan)
    saved = _mask_in_place(model, plan)
    try:
        yield model
    finally:
        for handle in closed:
            handle.remove()
        with torch.no_grad():
            for tensor, values in reversed(saved):  # tensors may share memory with each other
                if _overlaps(values):
                    tensor.data = values
                else:
                    tensor.copy_(values)


def _mask_in_place(model: nn.Module, plan: Plan) -> list[tuple[Tensor, Tensor]]:
    """Set to zero everything that the plan removes; returns the tensors with their old values."""
    tensors, closing = named_tensors(model), closing_names(plan)
    saved = []
    with torch.no_grad():
        for name, by_dims in kept(plan.groups, plan.masks, only_masked=True).items():
            mask = as_mask(by_dims, tuple(tensors[name].shape))
            if bool(mask.all()):
                continue
            tensor, gone = tensors[name], ~mask.to(tensors[name].device)
            value = low(tensor.dtype) if name in closing else 0
            # Not a product: 0 * inf would be NaN, and -1 * 0 would be -0.
            if _overlaps(tensor):
                saved.append((tensor, tensor.data))
                tensor.data = tensor.data.masked_fill(gone, value)
            else:
                saved.append((tensor, tensor.clone()))
                tensor.masked_fill_(gone, value)
    return saved


def masked_copy(model: nn.Module, plan: Plan) -> nn.Module:
    """A masked copy of the network; it shares nothing, since networks may write what they hold."""
    check_fits(model, plan)
    masks, closing = kept(plan.groups, plan.masks, only_masked=True), closing_names(plan)

    def hidden(name: str, tensor: Tensor) -> Tensor:
        mask = as_mask(masks.get(name, {}), tuple(tensor.shape)).to(tensor.device)
        value = low(tensor.dtype) if name in closing else 0
        values = tensor.detach().masked_fill(~mask, value)
        if isinstance(tensor, nn.Parameter):
            return nn.Parameter(values, requires_grad=tensor.requires_grad)
        return values

    copied = copy_with(model, hidden)
    close_gates(copied, plan)
    return copied


def _overlaps(tensor: Tensor) -> bool:
    """Whether elements share their memory, as in expanded buffers: those cannot be written to."""
    return any(
        step == 0 and size > 1 for size, step in zip(tensor.shape, tensor.stride(), strict=True)
    )

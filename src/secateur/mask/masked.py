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
    saved = []
    for tensor, gone, value in _removed(model, plan):  # tensors may share memory with each other
        saved.append((tensor, tensor.data if _overlaps(tensor) else tensor.detach().clone()))
        _write(tensor, gone, value)
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


def mask_for_good(model: nn.Module, plan: Plan) -> None:
    """As `masked`, of a copy that nobody wants back: nothing is kept to restore it from.

    Raises:
        PlanError: the plan does not fit the network.
    """
    check_fits(model, plan)
    close_gates(model, plan)
    for tensor, gone, value in _removed(model, plan):
        _write(tensor, gone, value)


def _removed(model: nn.Module, plan: Plan) -> Iterator[tuple[Tensor, Tensor, float]]:
    """Every tensor that loses something: what of it, a bool that broadcasts; and what stands there then."""
    tensors, closing = named_tensors(model), closing_names(plan)
    for name, by_dims in kept(plan.groups, plan.masks, only_masked=True).items():
        tensor = tensors[name]
        mask = as_mask(by_dims, tuple(tensor.shape))
        if not bool(mask.all()):
            yield tensor, ~mask.to(tensor.device), low(tensor.dtype) if name in closing else 0


def _write(tensor: Tensor, gone: Tensor, value: float) -> None:
    with torch.no_grad():
        # Not a product: 0 * inf would be NaN, and -1 * 0 would be -0.
        if _overlaps(tensor):
            tensor.data = tensor.data.masked_fill(gone, value)
        else:
            tensor.masked_fill_(gone, value)


def masked_copy(model: nn.Module, plan: Plan) -> nn.Module:
    """A masked copy of the network; it shares nothing, since networks may write what they hold."""
    check_fits(model, plan)
    masks, closing = kept(plan.groups, plan.masks, only_masked=True), closing_names(plan)

    def hidden(name: str, tensor: Tensor) -> Tensor:
        values = tensor.detach()
        if name in masks:
            mask = as_mask(masks[name], tuple(tensor.shape)).to(tensor.device)
            values = values.masked_fill(~mask, low(tensor.dtype) if name in closing else 0)
        else:
            values = values.clone()
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

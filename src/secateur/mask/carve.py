"""A copy of a network, cut tensor by tensor."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from secateur.attention import write_out
from secateur.errors import PlanError
from secateur.mask.copies import copy_with
from secateur.mask.cut import Cut
from secateur.mask.modules import name_left, take_out
from secateur.types.equation import Attribute
from secateur.types.kept import as_mask

Kept = Mapping[tuple[int, ...], Tensor]  # dims → bool (product of their sizes,)
_NOTHING: Mapping[str, Kept] = MappingProxyType({})


def carve(model: nn.Module, cut: Cut, hidden: Mapping[str, Kept] = _NOTHING) -> nn.Module:
    """A smaller plain copy; the model itself is untouched. `shrink` is this, with a plan.

    Args:
        model: the dense network, whose tensors have the sizes that the cut speaks of.
        hidden: tensor name → dims → bool; what is False there is set to zero, and stays.

    Raises:
        PlanError: a list of modules is not there, or not of its length.
        ModelError: the network cannot be copied.
    """

    def left(name: str, tensor: Tensor) -> Tensor:
        if name_left(cut.lists, name) is None:  # it leaves with the module that holds it
            return _as(tensor, tensor.detach().new_empty(0))
        return _as(tensor, _sliced(tensor, cut.kept.get(name, {}), hidden.get(name, {})))

    small = copy_with(model, left)
    for attribute, value in cut.sizes.items():
        _set(small, attribute, value)
    take_out(small, cut.lists)
    write_out(small, every=False)
    return small


def _sliced(tensor: Tensor, cut: Mapping[int, Tensor], hidden: Kept) -> Tensor:
    """A copy, zero where hidden, of the kept indices of every dim; the memory format stays."""
    values = tensor.detach()
    if hidden:
        mask = as_mask(hidden, tuple(tensor.shape)).to(tensor.device)
        values = values.masked_fill(~mask, 0)
    for dim, keep in cut.items():
        values = values.index_select(dim, keep.nonzero().squeeze(1).to(values.device))
    if values.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        values = values.contiguous(memory_format=torch.channels_last)
    return values.clone() if values.data_ptr() == tensor.data_ptr() else values


def _as(tensor: Tensor, values: Tensor) -> Tensor:
    """The values as what the tensor is: a parameter, or a buffer."""
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(values, requires_grad=tensor.requires_grad)
    return values


def _set(model: nn.Module, attribute: Attribute, value: int) -> None:
    """Give a size attribute its new value.

    Raises:
        PlanError: there is no such attribute, or it holds something else.
    """
    try:
        module = model.get_submodule(attribute.module)
        before: Any = getattr(module, attribute.name)  # an int, a tuple, a list or a torch.Size
        now = before if attribute.index is None else before[attribute.index]
    except (AttributeError, LookupError, TypeError) as error:
        raise PlanError(f"there is no size {attribute} in this network") from error
    if not isinstance(now, int) or now != attribute.value:
        raise PlanError(f"{attribute} is {now!r} in this network, not {attribute.value}")
    if attribute.index is None:
        object.__setattr__(module, attribute.name, value)
        return
    items = list(before)
    items[attribute.index] = value
    object.__setattr__(module, attribute.name, type(before)(items))

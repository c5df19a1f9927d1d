"""Cut what a plan removes out of a copy of the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from secateur.attention import write_out
from secateur.errors import PlanError
from secateur.mask.check import check_fits
from secateur.mask.copies import copy_with
from secateur.mask.modules import take_out
from secateur.types.equation import Attribute
from secateur.types.group import Groups
from secateur.types.kept import as_mask, kept
from secateur.types.plan import Plan
from secateur.types.solve import solve

Kept = Mapping[tuple[int, ...], Tensor]  # dims → bool (product of their sizes,)


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
    gone, zero = (
        {g.name: plan.masks[g.name] for g in plan.groups if g.removable is removable}
        for removable in (True, False)
    )
    cut, hidden = kept(plan.groups, gone), kept(plan.groups, zero, only_masked=True)
    small = copy_with(
        model, lambda name, tensor: _sliced(tensor, cut.get(name, {}), hidden.get(name, {}))
    )
    _set_attributes(small, _attributes(plan.groups, gone))
    take_out(small, plan.groups, gone)
    write_out(small, every=False)
    return small


def _sliced(tensor: Tensor, cut: Kept, hidden: Kept) -> Tensor:
    """A copy, zero where hidden, of the kept indices of every dim; kind and memory format stay."""
    values = tensor.detach()
    if hidden:
        mask = as_mask(hidden, tuple(tensor.shape)).to(tensor.device)
        values = values.masked_fill(~mask, 0)
    for dims, keep in cut.items():
        if bool(keep.all()):
            continue
        if not dims:  # it leaves with the module that holds it
            values = values.new_empty(0)
            break
        values = values.index_select(dims[0], keep.nonzero().squeeze(1).to(values.device))
    if values.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        values = values.contiguous(memory_format=torch.channels_last)
    if values.data_ptr() == tensor.data_ptr():
        values = values.clone()
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(values, requires_grad=tensor.requires_grad)
    return values


def _attributes(groups: Groups, masks: Mapping[str, Tensor]) -> Mapping[Attribute, int]:
    """What every size attribute must become.

    Raises:
        PlanError: the code's own size arithmetic cannot follow this plan.
    """
    live = {i: int(extent.live(masks).sum()) for i, extent in enumerate(groups.extents)}
    solution = solve(groups.equations, live)
    if solution.broken:
        broken = solution.broken[0]
        names = {name for name, _ in groups.extents[broken.extent].parts}
        raise PlanError(
            f"the code computes a size that cannot follow: {broken.where}",
            where=", ".join(sorted(names)),
            hint="keep these groups whole",
        )
    return solution.values


def _set_attributes(model: nn.Module, values: Mapping[Attribute, int]) -> None:
    for attribute, value in values.items():
        if value == attribute.value:
            continue
        module = model.get_submodule(attribute.module)
        if attribute.index is None:
            object.__setattr__(module, attribute.name, value)
            continue
        before: Any = getattr(module, attribute.name)  # a tuple, a list or a torch.Size
        items = list(before)
        items[attribute.index] = value
        object.__setattr__(module, attribute.name, type(before)(items))

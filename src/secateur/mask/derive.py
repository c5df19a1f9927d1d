"""The masks behind a network that was cut or masked, read off what is left of it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from secateur.errors import PlanError
from secateur.mask.cut import Cut
from secateur.mask.modules import name_left
from secateur.types.group import Group, Groups, Member


def derive(groups: Groups, cut: Cut, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Group name → bool (n,): units of which something is left.

    Of groups that are cut the vectors of the cut tell; of those that are masked, the numbers that are
    not zero. A unit that is kept although all its numbers are zero is taken for one that left.

    Args:
        groups: of the dense network.
        tensors: parameters and buffers of the pruned one, by their names in it.

    Raises:
        PlanError: the groups are of another network.
    """
    return {group.name: _units(group, cut, tensors) for group in groups}


def _units(group: Group, cut: Cut, tensors: Mapping[str, Tensor]) -> Tensor:
    if group.modules:
        stay = cut.lists.get(group.modules[0].rpartition(".")[0])
        return torch.ones(group.size, dtype=torch.bool) if stay is None else stay.clone()
    units = torch.zeros(group.size, dtype=torch.bool)
    for member in group.members:
        live = _kept(member, cut) if group.removable else _nonzero(member, cut, tensors)
        if live is not None:
            if live.shape != member.unit_of.shape:
                raise PlanError("was cut or masked as something else", where=member.name)
            units[member.unit_of[live & (member.unit_of >= 0)]] = True
    return units


def _kept(member: Member, cut: Cut) -> Tensor:
    """Which indices of a member's dim stay."""
    whole = torch.ones_like(member.unit_of, dtype=torch.bool)
    return cut.kept.get(member.name, {}).get(member.dims[0], whole)


def _nonzero(member: Member, cut: Cut, tensors: Mapping[str, Tensor]) -> Tensor | None:
    """At which indices of a member's dims there is a number that is not zero."""
    name = name_left(cut.lists, member.name)
    tensor = None if name is None else tensors.get(name)
    if not member.masked or tensor is None:
        return None
    if tuple(tensor.shape) != member.shape:
        raise PlanError("has another shape than the dense network's", where=member.name)
    live = tensor.detach().cpu() != 0
    for dim in reversed(range(tensor.dim())):
        if dim not in member.dims:
            live = live.any(dim)
    return live.reshape(-1)

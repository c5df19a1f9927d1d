"""From unit masks to tensor indices: the one place where `unit_of` is read for acting."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from secateur.types.group import Group, Groups, Member, Role


def spread(mask: Tensor, member: Member) -> Tensor:
    """A unit mask, bool (n,), as a mask over the indices of a member's dims; -1 stays True."""
    padded = torch.cat([mask, mask.new_ones(1)])  # -1 reads the last entry
    return padded[member.unit_of]


def kept(
    groups: Groups, masks: Mapping[str, Tensor], *, only_masked: bool = False
) -> dict[str, dict[tuple[int, ...], Tensor]]:
    """Which indices stay: tensor name → dims → bool (product of the sizes of dims,).

    Members of several groups on the same dims are joined by "and". Only tensors with a member
    appear; with `only_masked` only those that are multiplied by a mask.
    """
    live: dict[str, dict[tuple[int, ...], Tensor]] = {}
    for group in groups:
        if group.name not in masks:
            continue
        for member in group.members:
            if only_masked and not member.masked:
                continue
            mask = spread(masks[group.name], member)
            by_dims = live.setdefault(member.name, {})
            by_dims[member.dims] = by_dims[member.dims] & mask if member.dims in by_dims else mask
    return live


def as_mask(by_dims: Mapping[tuple[int, ...], Tensor], shape: tuple[int, ...]) -> Tensor:
    """One tensor's kept indices as a bool mask that broadcasts to `shape`."""
    whole = torch.ones([1] * len(shape), dtype=torch.bool)
    for dims, index in by_dims.items():
        if list(dims) != sorted(dims):
            raise ValueError("dims of a member must ascend")
        sizes = [shape[d] if d in dims else 1 for d in range(len(shape))]
        whole = whole & index.reshape(sizes)
    return whole


def per_unit(tensor: Tensor, member: Member, units: int) -> Tensor:
    """Sum a tensor of the member's shape over everything that belongs to each unit: (units,).

    This is how every score is reduced: one scatter-add over `unit_of`. Sums are taken, and returned,
    in float64.
    """
    dims = member.dims
    rest = [d for d in range(tensor.dim()) if d not in dims]
    summed = tensor.sum(rest, dtype=torch.float64) if rest else tensor.double()
    rows = summed.permute([sorted(dims).index(d) for d in dims]).reshape(-1)
    owned = member.unit_of >= 0
    unit_of = member.unit_of.to(tensor.device)
    if bool(owned.all()):
        return rows.new_zeros(units).index_add_(0, unit_of, rows)
    owned = owned.to(tensor.device)
    return rows.new_zeros(units).index_add_(0, unit_of[owned], rows[owned])


def written(group: Group) -> tuple[Member, ...]:
    """The members that produce the units; all members where none does."""
    from_writers = tuple(m for m in group.members if m.role is Role.WRITES)
    return from_writers or group.members

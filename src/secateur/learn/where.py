"""Where the mask of a group is put."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from secateur.errors import ModelError
from secateur.mask.copies import copy_with
from secateur.mask.masked import masked
from secateur.types.group import Group, Groups, Member, Role
from secateur.types.outputs import distance, largest, run_in_double
from secateur.types.plan import Plan
from secateur.types.untouched import untouched

Where = Mapping[str, tuple[Member, ...]]
"""Group → the members that its mask is put on."""


def where_masked(model: nn.Module, groups: Groups, names: Iterable[str], example: Any) -> Where:
    """Where masks must be, so that the network does what it will do once the units are gone.

    A unit that is read by weights is best masked there, and nowhere else: as feature maps are in the
    paper. Where that is enough is tried out, on the example. Elsewhere, and where units are not cut out
    but masked, every parameter has the mask; buffers, which training writes to, have none.

    Args:
        names: of the groups.
        example: as the network is called; None: nothing is tried out.

    Raises:
        ModelError: units go through a buffer that would need a mask.
    """
    whole = {
        name: tuple(m for m in groups[name].members if m.masked and m.name in groups.parameters)
        for name in names
    }
    read = {} if example is None else _read(model, groups, whole, example)
    for name, members in whole.items():
        if name not in read:
            _check(groups[name], members)
    return {**whole, **read}


def _read(model: nn.Module, groups: Groups, whole: Where, example: Any) -> Where:
    """The groups for which the members that read the units are enough, with those."""
    readers = {
        name: tuple(m for m in members if m.role is Role.READS)
        for name, members in whole.items()
        if groups[name].removable and not groups[name].declared
    }
    read = {name: members for name, members in readers.items() if members}
    model = copy_with(model, _moved)
    if not _enough(model, groups, read, example):
        read = {n: m for n, m in read.items() if _enough(model, groups, {n: m}, example)}
    return read if _enough(model, groups, read, example) else {}


def _check(group: Group, members: tuple[Member, ...]) -> None:
    """Refuse what cannot be masked by parameters: a normalisation without any would let through."""
    of_parameters = {member.name.rpartition(".")[0] for member in members}
    buffers = [m.name for m in group.members if m.masked and m not in members]
    bare = [name for name in buffers if name.rpartition(".")[0] not in of_parameters]
    if bare:
        raise ModelError(
            f"its {group.kind}s go through {bare[0]}, a buffer, and no mask can be put on buffers",
            where=group.name,
            hint="gate(..., example=) tries out whether one is needed there; or keep this layer whole",
        )


def _enough(model: nn.Module, groups: Groups, where: Where, example: Any) -> bool:
    """Whether masking these members alone does what masking all of their groups does."""
    kept = torch.arange(max((groups[name].size for name in where), default=0)) % 2 == 0
    masks = {name: kept[: groups[name].size] for name in where}
    outputs = []
    for restricted in (False, True):
        some = [_with(groups[name], where[name] if restricted else None) for name in where]
        plan = Plan(dataclasses.replace(groups, groups=tuple(some)), masks)
        with untouched(model), masked(model, plan):
            outputs.append(run_in_double(model, example))
    return distance(*outputs) <= TOLERANCE * largest(outputs[0])


def _moved(_name: str, tensor: Tensor) -> Tensor:
    """Somewhat other values: a weight that begins at zero would hide what it will let through."""
    if not tensor.is_floating_point() or not isinstance(tensor, nn.Parameter):
        return tensor.detach().clone()
    noise = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(tensor.numel()))
    size = tensor.detach().float().abs().mean().nan_to_num().clamp_min(0.01)
    return nn.Parameter(tensor.detach() + (0.3 * size * noise.to(tensor.device)).to(tensor.dtype))


def _with(group: Group, members: tuple[Member, ...] | None) -> Group:
    return group if members is None else dataclasses.replace(group, members=members)


TOLERANCE = 1e-3  # of the largest output: rounding, in float32, is far below
"""What leaks is not: a channel's mean, or a whole path."""

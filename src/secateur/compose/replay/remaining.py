"""What is left of a network under masks: a smaller copy of it, and its groups."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from secateur.attention import write_out
from secateur.compose.candidates import Candidate, Masks
from secateur.errors import PlanError
from secateur.mask.masked import masked_copy
from secateur.mask.shrink import shrink
from secateur.types.group import Activation, Extent, Group, Groups, Member
from secateur.types.kept import kept
from secateur.types.plan import Plan

Live = Mapping[str, Mapping[int, Tensor]]  # tensor name → dim → bool (size of dim,)


@dataclass(frozen=True, slots=True, eq=False)
class Remaining:
    """A copy of the network without the units that are gone.

    It computes what the masked network computes. Units whose removal would not do the same as their
    mask (declared statistics, units inside weights, closed gates) are zero in the copy, and still there.

    Attributes:
        network: in eval mode, without gradients; it shares nothing with the network it came from.
        groups: of the copy; their units are renumbered. They serve to score and to mask, not to cut
            once more.
        units: group name → int64 (size in the copy,): the number each unit had before.
        sizes: group name → how many units there were before.
    """

    network: nn.Module
    groups: Groups
    units: Mapping[str, Tensor]
    sizes: Mapping[str, int]

    def number(self, candidate: Candidate) -> int:
        """The number that a unit has in the copy."""
        return int((self.units[candidate.group] == candidate.unit).nonzero())

    def spread(self, scores: Mapping[str, Tensor], fill: float = 0.0) -> dict[str, Tensor]:
        """Scores of the copy's units, (size in the copy,), as scores of all, (size before,).

        Units that are gone get `fill`.
        """
        found = {}
        for name, values in scores.items():
            found[name] = values.new_full((self.sizes[name],), fill)
            found[name][self.units[name].to(values.device)] = values
        return found


def remaining(
    model: nn.Module, groups: Groups, masks: Masks, whole: Collection[str] = ()
) -> Remaining:
    """A copy of the network without the units that the masks remove.

    Args:
        whole: groups whose units are only masked in the copy, never cut out.

    Raises:
        PlanError: the masks do not fit the network.
        ModelError: the network cannot be copied.
    """
    cut = [
        group.name
        for group in groups
        if group.removable and not (group.declared or group.gate) and group.name not in whole
        if not bool(masks[group.name].all())
    ]
    try:
        network = _copy(model, groups, masks, cut)
    except PlanError:
        if not cut:
            raise
        cut = []  # the code computes a size that cannot follow this very plan
        network = _copy(model, groups, masks, cut)
    network.eval().requires_grad_(False)
    write_out(network)  # so that all copies make the same calls, whether or not heads are gone
    gone = {name: masks[name] for name in cut}
    units = {
        g.name: gone[g.name].nonzero().squeeze(1) if g.name in gone else torch.arange(g.size)
        for g in groups
    }
    sizes = {group.name: group.size for group in groups}
    return Remaining(network, _groups(groups, gone), units, sizes)


def _copy(model: nn.Module, groups: Groups, masks: Masks, cut: Collection[str]) -> nn.Module:
    """A copy with these groups cut, and all others masked."""
    told = tuple(replace(group, removable=group.name in cut) for group in groups)
    plan = Plan(replace(groups, groups=told), masks)
    return shrink(model, plan) if cut else masked_copy(model, plan)


def _groups(groups: Groups, gone: Masks) -> Groups:
    """The groups of a network from which units were cut."""
    if not gone:
        return replace(groups, equations=())
    cut = kept(groups, gone)
    live = {name: {dim: row for (dim,), row in dims.items()} for name, dims in cut.items()}
    number = {g.name: _numbers(gone.get(g.name), g.size) for g in groups}
    seen = _seen(groups, gone)

    def group(old: Group) -> Group:
        mine = number[old.name]
        return replace(
            old,
            size=int((mine >= 0).sum()),
            members=tuple(_member(member, live, mine) for member in old.members),
            activations=tuple(
                replace(a, unit_of=mine[a.unit_of[seen[_tensor(a)]]]) for a in old.activations
            ),
        )

    extents = tuple(_extent(extent, gone, number) for extent in groups.extents)
    shapes = {name: _shape(name, shape, live) for name, shape in groups.shapes.items()}
    return replace(
        groups,
        groups=tuple(group(old) for old in groups),
        shapes=shapes,
        extents=extents,
        equations=(),
    )


def _numbers(mask: Tensor | None, size: int) -> Tensor:
    """int64 (size + 1,): the new number of every old unit, -1 where it is gone; the last is -1's."""
    left = torch.ones(size, dtype=torch.bool) if mask is None else mask
    numbers = torch.where(left, left.cumsum(0) - 1, -1)
    return torch.cat([numbers, numbers.new_tensor([-1])])


def _member(member: Member, live: Live, number: Tensor) -> Member:
    unit_of = member.unit_of.reshape([member.shape[dim] for dim in member.dims])
    for axis, dim in enumerate(member.dims):
        row = live.get(member.name, {}).get(dim)
        if row is not None:
            unit_of = unit_of.index_select(axis, row.nonzero().squeeze(1))
    shape = _shape(member.name, member.shape, live)
    return replace(member, shape=shape, unit_of=number[unit_of.reshape(-1)])


def _shape(name: str, shape: tuple[int, ...], live: Live) -> tuple[int, ...]:
    rows = live.get(name, {})
    return tuple(int(rows[d].sum()) if d in rows else size for d, size in enumerate(shape))


_Tensor = tuple[str, object, int, int]


def _tensor(activation: Activation) -> _Tensor:
    """Which dim of which tensor: several groups may share one."""
    return activation.module, activation.place, activation.position, activation.dim


def _seen(groups: Groups, gone: Masks) -> dict[_Tensor, Tensor]:
    """Which indices of every activation are left, bool (size of its dim,)."""
    live: dict[_Tensor, Tensor] = {}
    for group in groups:
        for activation in group.activations:
            part = Extent(len(activation.unit_of), ((group.name, activation.unit_of),)).live(gone)
            tensor = _tensor(activation)
            live[tensor] = live[tensor] & part if tensor in live else part
    return live


def _extent(extent: Extent, gone: Masks, number: Mapping[str, Tensor]) -> Extent:
    left = extent.live(gone)
    parts = tuple((name, number[name][unit_of[left]]) for name, unit_of in extent.parts)
    return Extent(int(left.sum()), parts)

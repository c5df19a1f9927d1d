"""Budgets as polynomials: what every level of every group leaves of a quantity."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from secateur.allocate.levels import Levels
from secateur.types.group import Groups, Member

_Levels = Mapping[str, Levels]
_Parts = Sequence[
    tuple[str, Tensor]
]  # (group, unit_of (size,)): an index stays if all its units do


@dataclass(frozen=True, slots=True, eq=False)
class Sum:
    """A length that is a sum over groups: `constant` + what each group's level adds.

    Attributes:
        constant: what stays whatever is chosen.
        parts: group name → float64 (levels,).
    """

    constant: float
    parts: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """`times` the product of some lengths: what one layer costs."""

    times: float
    factors: tuple[Sum, ...]


def units(groups: Groups, levels: _Levels, fixed: Mapping[str, Tensor]) -> list[Product]:
    """Units that stay."""
    parts = {g.name: g.size - levels[g.name].gone.double() for g in groups if g.name in levels}
    return [Product(1.0, (Sum(float(sum(int(m.sum()) for m in fixed.values())), parts),))]


def params(groups: Groups, levels: _Levels, fixed: Mapping[str, Tensor]) -> list[Product]:
    """Parameter elements that stay."""
    of = members_of(groups)
    return [
        Product(1.0, tuple(_lengths(groups.shapes[name], of.get(name, ()), levels, fixed)))
        for name in sorted(groups.parameters)
    ]


def macs(groups: Groups, levels: _Levels, fixed: Mapping[str, Tensor]) -> list[Product]:
    """Multiply-accumulates that stay."""
    of = members_of(groups)
    inside = {name for name, some in of.items() if any(len(m.dims) > 1 for _, m in some)}
    known: dict[int, Sum] = {}
    found = []
    for one in groups.contractions:
        if one.weight is not None and one.weight in inside:
            shape = groups.shapes[one.weight]
            lengths = tuple(_lengths(shape, of[one.weight], levels, fixed))
            found.append(Product(float(one.uses), lengths))
            continue
        for number in one.extents:
            if number not in known:
                extent = groups.extents[number]
                known[number] = length_of(extent.size, extent.parts, levels, fixed)
        found.append(Product(float(one.fixed), tuple(known[number] for number in one.extents)))
    return found


FORMS: Mapping[str, Callable[[Groups, _Levels, Mapping[str, Tensor]], list[Product]]] = {
    "macs": macs,
    "params": params,
    "units": units,
}


def members_of(groups: Groups) -> dict[str, list[tuple[str, Member]]]:
    """The members of every tensor, with their groups."""
    found: dict[str, list[tuple[str, Member]]] = {}
    for group in groups:
        for member in group.members:
            found.setdefault(member.name, []).append((group.name, member))
    return found


def _lengths(
    shape: tuple[int, ...],
    members: Sequence[tuple[str, Member]],
    levels: _Levels,
    fixed: Mapping[str, Tensor],
) -> Iterator[Sum]:
    """The lengths of a tensor's dims; dims that one member holds together are one length."""
    by_dims: dict[tuple[int, ...], list[tuple[str, Tensor]]] = {}
    for group, member in members:
        by_dims.setdefault(member.dims, []).append((group, member.unit_of))
    taken: set[int] = set()
    for dims in sorted(by_dims, key=len, reverse=True):
        # of members that share some of their dims the larger counts alone: more than there is, not less
        if not taken & set(dims):
            taken |= set(dims)
            yield length_of(prod(shape[d] for d in dims), by_dims[dims], levels, fixed)
    yield Sum(float(prod(size for d, size in enumerate(shape) if d not in taken)), {})


def length_of(size: int, parts: _Parts, levels: _Levels, fixed: Mapping[str, Tensor]) -> Sum:
    """How many indices stay; where one belongs to units of several groups, the first one decides."""
    free = torch.ones(size, dtype=torch.bool)  # no group that can lose units has this index yet
    for name, unit_of in parts:
        if name in fixed:
            free &= torch.cat([fixed[name], fixed[name].new_ones(1)])[unit_of]
    found: dict[str, Tensor] = {}
    for name, unit_of in parts:
        if name in levels:
            mine = free & (unit_of >= 0)
            free &= ~mine
            own = torch.bincount(unit_of[mine], minlength=levels[name].group.size).double()
            stays = levels[name].masks().double() @ own
            found[name] = found[name] + stays if name in found else stays
    return Sum(float(free.sum()), found)

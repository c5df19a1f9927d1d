"""Parameters and multiply-accumulates under masks, from the groups alone: no network, no run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import combinations
from types import MappingProxyType

from torch import Tensor

from secateur.types.group import Groups
from secateur.types.kept import as_mask, kept

_DENSE: Mapping[str, Tensor] = MappingProxyType({})
_Kept = Mapping[tuple[int, ...], Tensor]


def params(groups: Groups, masks: Mapping[str, Tensor] = _DENSE) -> int:
    """Parameter elements that stay.

    Args:
        masks: group name → bool (n,); a group without a mask is kept whole: {} is all dense.
    """
    left = kept(groups, masks)
    return sum(elements(left.get(name, {}), groups.shapes[name]) for name in groups.parameters)


def macs(groups: Groups, masks: Mapping[str, Tensor] = _DENSE) -> int:
    """Multiply-accumulates of one forward pass of the example that stay.

    Only contractions count (convolutions and matrix products), as in `torch.utils.flop_counter`,
    which counts two operations for each.
    """
    return sum(count for _, count in _counted(groups, masks))


def macs_by_module(groups: Groups, masks: Mapping[str, Tensor] = _DENSE) -> dict[str, int]:
    """`macs`, by the module whose own code runs the contraction."""
    totals: dict[str, int] = {}
    for module, count in _counted(groups, masks):
        totals[module] = totals.get(module, 0) + count
    return totals


def _counted(groups: Groups, masks: Mapping[str, Tensor]) -> Iterator[tuple[str, int]]:
    """(module, multiply-accumulates) of every contraction.

    Where the units lie inside a weight (single weights, kernels) no extent gets shorter; what is
    left to do is then `uses` of every element that stays.
    """
    inside = {
        member.name
        for group in groups
        if group.name in masks
        for member in group.members
        if len(member.dims) > 1
    }
    left = kept(groups, masks) if inside else {}
    live: dict[int, int] = {}
    for contraction in groups.contractions:
        weight = contraction.weight
        if weight is not None and weight in inside:
            count = contraction.uses * elements(left[weight], groups.shapes[weight])
            yield contraction.module, count
            continue
        for extent in contraction.extents:
            if extent not in live:
                live[extent] = groups.extents[extent].count(masks)
        count = contraction.fixed * math.prod(live[extent] for extent in contraction.extents)
        yield contraction.module, count


def elements(by_dims: _Kept, shape: tuple[int, ...]) -> int:
    """How many elements of one tensor stay; `by_dims` is what `kept` says of it."""
    masked = {dim for dims in by_dims for dim in dims}
    whole = math.prod(size for dim, size in enumerate(shape) if dim not in masked)
    if any(set(a) & set(b) for a, b in combinations(by_dims, 2)):
        return whole * int(as_mask(by_dims, shape).sum())
    return whole * math.prod(int(index.sum()) for index in by_dims.values())

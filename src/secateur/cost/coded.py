"""Bits of a network that is masked and quantised, from its plan alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from torch import Tensor

from secateur.cost.counts import elements
from secateur.errors import PlanError
from secateur.types.group import Group, Groups
from secateur.types.kept import kept
from secateur.types.plan import Plan

FLOAT_BITS = 32
_EXACT = 4096  # units of a row up to which C(n, k) is a whole number here
_NO_ROWS: Mapping[str, Sequence[int]] = MappingProxyType({})


class Coding(Protocol):
    """How weights are written: `Quantizer` is one."""

    @property
    def bits(self) -> int:
        """Of one weight."""
        ...

    def scales(self, outputs: int) -> int:
        """How many float32 scales a tensor has, the first dim of which has so many indices."""
        ...


@dataclass(frozen=True, slots=True)
class Coded:
    """What a network weighs, in bits; a shared tensor counts once, buffers do not count.

    Attributes:
        values: the weights of products that stay.
        masks: which units of groups that are masked, not cut, stay: log2 C(n, k) a row.
        scales: float32, of the weights of products.
        rest: all other parameters that stay, float32.
        dense: all parameters of the dense network, float32.
    """

    values: int
    masks: float
    scales: int
    rest: int
    dense: int

    @property
    def bits(self) -> float:
        """All that must be stored."""
        return self.values + self.masks + self.scales + self.rest

    @property
    def bytes(self) -> int:
        """`bits`, in whole bytes."""
        return math.ceil(self.bits / 8)

    @property
    def compression(self) -> float:
        """How often it goes into the dense network in float32."""
        return self.dense / self.bits


def coded(
    plan: Plan, coding: Coding | None = None, rows: Mapping[str, Sequence[int]] = _NO_ROWS
) -> Coded:
    """Count a network that a plan prunes and a coding writes.

    Args:
        coding: of the weights of all products; None for float32.
        rows: group → (rows, n, k), where exactly k of each n units stay, which the masks must bear
            out: what `plan.about["rows, n and k"]` says of a plan that was learned. A group with a
            pattern has rows by itself; any other is one row.

    Raises:
        PlanError: the rows do not fit the masks.
    """
    groups, left = plan.groups, kept(plan.groups, plan.masks)
    coded_names = frozenset(product_weights(groups)) & groups.parameters
    values = scales = rest = 0
    for name in groups.parameters:
        shape, by_dims = groups.shapes[name], left.get(name, {})
        count = elements(by_dims, shape)
        if name not in coded_names:
            rest += FLOAT_BITS * count
            continue
        values += count * (FLOAT_BITS if coding is None else coding.bits)
        if coding is not None:
            scales += FLOAT_BITS * coding.scales(_outputs(by_dims, shape))
    masks = sum(_mask_bits(plan, group, rows.get(group.name)) for group in groups)
    dense = FLOAT_BITS * sum(math.prod(groups.shapes[name]) for name in groups.parameters)
    return Coded(values, masks, scales, rest, dense)


def mask_bits(rows: int, n: int, k: int) -> float:
    """Bits that say which k of n stay in every row: rows * log2 C(n, k).

    Raises:
        PlanError: there is no such mask.
    """
    if rows < 0 or not 0 <= k <= n:
        raise PlanError(f"there is no mask that keeps {k} of {n} in {rows} rows")
    if n <= _EXACT:
        return rows * math.log2(math.comb(n, k))
    logs = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return rows * max(0.0, logs / math.log(2.0))


def product_weights(groups: Groups) -> tuple[str, ...]:
    """The parameters that convolutions and matrix products take, each once."""
    return tuple(dict.fromkeys(c.weight for c in groups.contractions if c.weight is not None))


def _outputs(by_dims: Mapping[tuple[int, ...], Tensor], shape: Sequence[int]) -> int:
    """How many indices of the first dim stay; 1 of a vector."""
    if len(shape) < 2:
        return 1
    return int(by_dims[0,].sum()) if (0,) in by_dims else shape[0]


def _mask_bits(plan: Plan, group: Group, rows: Sequence[int] | None) -> float:
    """Of one group; none where the units are cut out, which the shapes of the tensors say."""
    if group.removable:
        return 0.0
    stay = int(plan.masks[group.name].sum())
    if rows is None and group.pattern is not None:
        k, n = group.pattern
        rows = (group.size // n, n, k)
    count, n, k = (1, group.size, stay) if rows is None else rows
    if count * n != group.size or count * k != stay:
        raise PlanError(
            f"{stay} of {group.size} units stay, which is not {k} of {n} in {count} rows",
            group.name,
        )
    return mask_bits(count, n, k)

"""Remove random units in both ways, by mask and by cutting, and say how the results differ."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import secateur as sec
from tests.zoo.net import Net
from tests.zoo.outputs import difference, floats, run

FRACTION = 0.3
TOLERANCE = 1e-9  # float64, relative to the largest output


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A network of the zoo with what the tracer found."""

    net: Net
    seed: int
    model: nn.Module
    example: Any
    groups: sec.Groups

    def losing(self) -> list[sec.Group]:
        """The groups that can lose a unit."""
        return [group for group in self.groups if group.size > 1]


@dataclass(frozen=True, slots=True, eq=False)
class Removal:
    """What one plan did."""

    plan: sec.Plan
    small: nn.Module
    error: float  # masked against shrunk, relative to the output's scale
    moved: float  # masked against dense
    declared: frozenset[str]  # operators declared by groups that lost units


def prepare(net: Net, seed: int = 0) -> Prepared:
    """Build and trace a network in float64."""
    model, example = net.model(seed), net.inputs(seed)
    return Prepared(net, seed, model, example, sec.groups(model, example, sec.Channels()))


def random_masks(
    groups: sec.Groups, seed: int, only: Iterable[str] | None = None
) -> dict[str, Tensor]:
    """Masks that drop 30 % of each group, at least one unit, never all; the others stay whole."""
    draw = torch.Generator().manual_seed(seed)
    chosen = {group.name for group in groups} if only is None else set(only)
    masks = {}
    for group in groups:
        masks[group.name] = torch.ones(group.size, dtype=torch.bool)
        order = torch.randperm(group.size, generator=draw)
        if group.name in chosen and group.size > 1:
            count = min(max(1, round(FRACTION * group.size)), group.size - 1)
            masks[group.name][order[:count]] = False
    return masks


def remove(prepared: Prepared, masks: Mapping[str, Tensor]) -> Removal:
    """Mask, cut, and compare on the example that was traced and on another."""
    plan = sec.Plan(prepared.groups, masks)
    model, examples = prepared.model, (prepared.example, prepared.net.inputs(prepared.seed + 50))
    dense = [tensor for example in examples for tensor in floats(run(model, example))]
    with sec.masked(model, plan):
        masked = [tensor for example in examples for tensor in floats(run(model, example))]
    small = sec.shrink(model, plan)
    pruned = [tensor for example in examples for tensor in floats(run(small, example))]
    scale = [torch.maximum(a.abs(), b.abs()) for a, b in zip(dense, masked, strict=True)]
    declared = frozenset(
        place.operator
        for group in prepared.groups
        if not bool(masks[group.name].all())
        for place in group.declared
    )
    return Removal(
        plan,
        small,
        difference(masked, pruned, scale),
        difference(masked, dense, scale),
        declared,
    )


def planned_shapes(groups: sec.Groups, masks: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Every parameter's and buffer's shape after cutting, read off the members one by one."""
    live = {name: torch.ones(shape, dtype=torch.bool) for name, shape in groups.shapes.items()}
    for group in groups:
        for member in group.members:
            shape = groups.shapes[member.name]
            sizes = [shape[dim] if dim in member.dims else 1 for dim in range(len(shape))]
            stays = torch.tensor(
                [bool(unit < 0 or masks[group.name][unit]) for unit in member.unit_of.tolist()]
            )
            live[member.name] &= stays.reshape(sizes)
    return {name: _box(alive) for name, alive in live.items()}


def _box(alive: Tensor) -> tuple[int, ...]:
    """How many indices of each dim still hold something."""
    sizes = []
    for dim in range(alive.dim()):
        others = [d for d in range(alive.dim()) if d != dim]
        rows = alive.permute(dim, *others).reshape(alive.shape[dim], -1)
        sizes.append(int(rows.any(1).sum()))
    assert math.prod(sizes) == int(alive.sum()), "what stays is no box: it cannot be cut out"
    return tuple(sizes)


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Every parameter's and buffer's shape by its first name."""
    found = dict(model.named_parameters()) | dict(model.named_buffers())
    return {name: tuple(tensor.shape) for name, tensor in found.items()}

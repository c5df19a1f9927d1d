"""Networks of the zoo at every granularity, and their weights unit by unit, for slow plain twins."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from _pytest.mark import ParameterSet
from torch import Tensor, nn

import secateur as sec
from secateur.types import Group, Groups, Member
from tests.zoo import more, traps
from tests.zoo.net import Net

NETS = {net.name: net for net in (*more.NETS, *traps.NETS)}

# coupled: residual sums, over a concatenation, in parallel branches; a layer run twice; grouped,
# depthwise and transposed convolutions; flattened maps; a loose weight; a recurrent layer
NAMES = (
    "resnext",
    "residual_over_concat",
    "repvgg",
    "layer_used_twice",
    "inverted_residual",
    "transposed_conv",
    "flatten_to_fc",
    "einsum_loose_weight",
    "lstm",
)

KINDS: dict[str, sec.Granularity] = {
    "channel": sec.Channels(),
    "kernel": sec.Kernels(),
    "weight": sec.Weights(),
    "block": sec.Block(1, 2),
}


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A network in float64 and eval mode, with its groups."""

    net: Net
    model: nn.Module
    groups: Groups

    def inputs(self, seed: int = 0) -> Any:
        """An example of two samples."""
        return self.net.inputs(seed)


NOTHING = {  # not divisible, no convolutions
    ("repvgg", "block"),
    ("einsum_loose_weight", "block"),
    ("lstm", "kernel"),
    ("lstm", "block"),
}


def case(name: str, kind: str = "channel") -> Case:
    """A network of the zoo by its name, at a granularity."""
    net = NETS[name]
    model = net.model()
    return Case(net, model, sec.groups(model, net.inputs(), KINDS[kind]))


def cases(names: Sequence[str] = NAMES, kinds: Sequence[str] = tuple(KINDS)) -> list[ParameterSet]:
    """Networks times granularities, as parameters of a test; pairs without any unit are left out."""
    pairs = [pair for pair in itertools.product(names, kinds) if pair not in NOTHING]
    return [pytest.param(name, kind, id=f"{name}-{kind}") for name, kind in pairs]


def tensor_of(model: nn.Module, name: str) -> Tensor:
    """A parameter or buffer."""
    return {**dict(model.named_buffers()), **dict(model.named_parameters())}[name].detach()


def slices(tensor: Tensor, member: Member) -> list[tuple[int, Tensor]]:
    """(unit, slice) for each index of a member's dims; unit -1 belongs to none."""
    found = []
    indices = itertools.product(*(range(tensor.shape[d]) for d in member.dims))
    for index, unit in zip(indices, member.unit_of.tolist(), strict=True):
        at: list[Any] = [slice(None)] * tensor.dim()
        for d, i in zip(member.dims, index, strict=True):
            at[d] = i
        found.append((unit, tensor[tuple(at)]))
    return found


def filters_of(model: nn.Module, group: Group) -> list[list[tuple[Member, Tensor]]]:
    """Of each unit the filters that write it: (member, slice); biases are left out."""
    found: list[list[tuple[Member, Tensor]]] = [[] for _ in range(group.size)]
    for member in group.members:
        tensor = tensor_of(model, member.name)
        if member.role.value == "writes" and tensor.dim() > 1:
            for unit, part in slices(tensor, member):
                if unit >= 0:
                    found[unit].append((member, part))
    return found


def close(found: Tensor, expected: Sequence[float], rtol: float = 1e-5) -> None:
    """Scores are float32; twins are computed in float64."""
    torch.testing.assert_close(
        found, torch.tensor(expected, dtype=torch.float32), rtol=rtol, atol=1e-10
    )

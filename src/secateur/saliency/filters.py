"""Which weights stand for a unit: the filters that produce it."""

from __future__ import annotations

from dataclasses import replace

import torch

from secateur.types.group import Group, Member
from secateur.types.kept import written


def filters(group: Group) -> tuple[Member, ...]:
    """The members whose slices are the units' filters.

    Those are the tensors of two and more dims that write the units. Vectors (biases, gains) do not
    count, save for units that have nothing else: what they hold of other units is left out.
    """
    members = written(group)
    matrices = [member for member in members if len(member.shape) > 1]
    held = torch.zeros(group.size + 1, dtype=torch.bool)
    for member in matrices:
        held[member.unit_of] = True
    held[-1] = True  # -1 belongs to no unit
    rest = []
    for vector in members:
        if len(vector.shape) == 1 and not bool(held[vector.unit_of].all()):
            alone = torch.where(held[vector.unit_of], -1, vector.unit_of)
            rest.append(replace(vector, unit_of=alone))
    return (*matrices, *rest)

"""What stays and what goes: masks, and all that is needed to act on a fresh copy of a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from secateur import archive
from secateur.errors import PlanError
from secateur.types.group import Groups
from secateur.types.storage import pack_groups, unpack_groups


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A mask for every group.

    Attributes:
        groups: what the masks are about.
        masks: group name → bool (n,); True stays.
        about: where the plan comes from (allocator, budgets, reached values); JSON values only.
    """

    groups: Groups
    masks: Mapping[str, Tensor]
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for group in self.groups:
            mask = self.masks.get(group.name)
            if mask is None or mask.shape != (group.size,) or mask.dtype != torch.bool:
                found = "none" if mask is None else f"{mask.dtype} {tuple(mask.shape)}"
                raise PlanError(
                    f"needs a bool mask of shape ({group.size},), found {found}", where=group.name
                )
            if not bool(mask.any()):
                raise PlanError(
                    "the mask removes every unit", where=group.name, hint="keep at least one"
                )
            if int(mask.sum()) < group.least.units:
                raise PlanError(
                    f"the mask keeps {int(mask.sum())} {group.kind}s, and {group.least.units} must"
                    f" stay: {group.least.why}",
                    where=group.name,
                )
        for name in self.masks:
            if name not in self.groups:
                raise PlanError("there is no such group", where=name)

    @property
    def removed(self) -> int:
        """How many units go."""
        return sum(int((~mask).sum()) for mask in self.masks.values())

    def __and__(self, other: Plan) -> Plan:
        """What both plans keep.

        Raises:
            PlanError: they are about different groups, or nothing of a group is kept by both.
        """
        sizes, others = ({g.name: g.size for g in p.groups} for p in (self, other))
        if sizes != others:
            differ = sorted(name for name, _ in sizes.items() ^ others.items())
            raise PlanError("the plans are about different groups", where=", ".join(differ[:8]))
        masks = {name: mask & other.masks[name] for name, mask in self.masks.items()}
        return Plan(self.groups, masks, {"both": [dict(self.about), dict(other.about)]})

    def __str__(self) -> str:
        lines = [f"keeps {self.groups.units - self.removed} of {self.groups.units} units"]
        for name, mask in self.masks.items():
            lines.append(f"    {name}: {int(mask.sum())} of {mask.numel()}")
        return "\n".join(lines)

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file with a JSON header.

        Raises:
            FileError: the path cannot be written.
        """
        header, tensors = pack_groups(self.groups)
        masks = {f"mask.{i}": self.masks[group.name] for i, group in enumerate(self.groups)}
        return archive.save(
            path, "plan", {"groups": header, "about": dict(self.about)}, tensors | masks
        )

    @staticmethod
    def load(path: str | Path) -> Plan:
        """Read what `save` wrote.

        Raises:
            FileError: missing, truncated, not a plan, or contradicting itself.
        """
        header, tensors = archive.load(path, "plan")
        with archive.malformed(path, "plan"):
            groups = unpack_groups(header["groups"], tensors)
            masks = {group.name: tensors[f"mask.{i}"] for i, group in enumerate(groups)}
            return Plan(groups, masks, header["about"])

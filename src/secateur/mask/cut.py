"""What leaves a network for good, tensor by tensor: what is left of a plan when its groups are forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from secateur import archive
from secateur.errors import PlanError
from secateur.mask.modules import Lists, lists_of
from secateur.types.equation import Attribute
from secateur.types.group import Groups
from secateur.types.kept import kept
from secateur.types.plan import Plan
from secateur.types.solve import solve

_KIND = "cut"


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """Enough to cut a fresh copy of a network, without tracing it and without its groups.

    Attributes:
        kept: name of a tensor of the dense network → dim → bool (size of the dim,); True stays. Whole
            tensors and dims are not named.
        lists: lists of modules that lose some.
        sizes: attributes that hold sizes, and what they become.
    """

    kept: Mapping[str, Mapping[int, Tensor]] = field(default_factory=dict)
    lists: Lists = field(default_factory=dict)
    sizes: Mapping[Attribute, int] = field(default_factory=dict)

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file with a JSON header.

        Raises:
            FileError: the path cannot be written.
        """
        dims = [(name, dim) for name, by_dim in self.kept.items() for dim in by_dim]
        tensors = {f"kept.{i}": self.kept[name][dim] for i, (name, dim) in enumerate(dims)}
        tensors |= {f"list.{i}": stay for i, stay in enumerate(self.lists.values())}
        sizes = [[a.module, a.name, a.index, a.value, value] for a, value in self.sizes.items()]
        header = {"kept": dims, "lists": list(self.lists), "sizes": sizes}
        return archive.save(path, _KIND, header, tensors)

    @staticmethod
    def load(path: str | Path) -> Cut:
        """Read what `save` wrote.

        Raises:
            FileError: missing, truncated, not a cut, or contradicting itself.
        """
        header, tensors = archive.load(path, _KIND)
        with archive.malformed(path, _KIND):
            kept: dict[str, dict[int, Tensor]] = {}
            for i, (name, dim) in enumerate(header["kept"]):
                kept.setdefault(name, {})[int(dim)] = tensors[f"kept.{i}"]
            lists = {name: tensors[f"list.{i}"] for i, name in enumerate(header["lists"])}
            if any(t.dtype != torch.bool or t.dim() != 1 for t in tensors.values()):
                raise ValueError("what stays is not told by bools")
            sizes = {Attribute(*attribute): int(value) for *attribute, value in header["sizes"]}
        return Cut(kept, lists, sizes)


def cut_of(plan: Plan) -> Cut:
    """What of a plan is cut out; units that can only be masked have no part in it.

    Raises:
        PlanError: the code's own size arithmetic cannot follow this plan.
    """
    gone = {group.name: plan.masks[group.name] for group in plan.groups if group.removable}
    found: dict[str, Mapping[int, Tensor]] = {}
    for name, by_dims in kept(plan.groups, gone).items():
        dims = {d[0]: keep for d, keep in by_dims.items() if d and not bool(keep.all())}
        if dims:
            found[name] = dims
    lists = {
        path: stay for path, stay in lists_of(plan.groups, gone).items() if not bool(stay.all())
    }
    return Cut(found, lists, _sizes(plan.groups, gone))


def _sizes(groups: Groups, masks: Mapping[str, Tensor]) -> Mapping[Attribute, int]:
    """What every size attribute that changes becomes."""
    live = {i: extent.count(masks) for i, extent in enumerate(groups.extents)}
    solution = solve(groups.equations, live)
    if solution.broken:
        broken = solution.broken[0]
        names = {name for name, _ in groups.extents[broken.extent].parts}
        raise PlanError(
            f"the code computes a size that cannot follow: {broken.where}",
            where=", ".join(sorted(names)),
            hint="keep these groups whole",
        )
    return {a: value for a, value in solution.values.items() if value != a.value}

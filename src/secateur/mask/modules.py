"""Units that are whole modules of a list: what leaves with them, and what the others are called then."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from secateur.errors import PlanError
from secateur.types.group import Groups


def take_out(model: nn.Module, groups: Groups, masks: Mapping[str, Tensor]) -> None:
    """Delete modules from the lists that hold them; those that stay move up.

    Raises:
        PlanError: they are not all the modules of one list.
    """
    modules = dict(model.named_modules())
    holders = []
    for group in groups:
        if group.modules and group.name in masks:
            path = group.modules[0].rpartition(".")[0]
            holder = modules.get(path)
            if not isinstance(holder, nn.ModuleList) or len(holder) != group.size:
                what = f"should be a ModuleList of {group.size} {group.kind}s"
                raise PlanError(what, where=path, hint="was the plan made for another network?")
            holders.append((holder, masks[group.name]))
    for holder, mask in holders:  # found before any is renumbered: a module may hold further lists
        for number in reversed((~mask).nonzero().flatten().tolist()):
            del holder[number]


def names_left(groups: Groups, masks: Mapping[str, Tensor]) -> dict[str, str]:
    """What every tensor is called after `take_out`; those that left are missing."""
    number: dict[str, str | None] = {}
    for group in groups:
        if group.modules and group.name in masks:
            stay = masks[group.name].tolist()
            new = (masks[group.name].cumsum(0) - 1).tolist()
            for path, stays, place in zip(group.modules, stay, new, strict=True):
                number[path] = str(place) if stays else None
    found = {}
    for name in groups.shapes:
        parts = name.split(".")
        paths = [".".join(parts[: i + 1]) for i in range(len(parts))]
        moved = [number.get(path, part) for path, part in zip(paths, parts, strict=True)]
        left = [part for part in moved if part is not None]
        if len(left) == len(parts):
            found[name] = ".".join(left)
    return found

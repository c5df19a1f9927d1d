"""Units that are whole modules of a list: what leaves with them, and what the others are called then."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from secateur.errors import PlanError
from secateur.types.group import Groups

Lists = Mapping[str, Tensor]
"""Path of a ModuleList in the dense network → bool (its length,); True stays."""


def lists_of(groups: Groups, masks: Mapping[str, Tensor]) -> Lists:
    """The lists of modules that masks are about."""
    return {
        group.modules[0].rpartition(".")[0]: masks[group.name]
        for group in groups
        if group.modules and group.name in masks
    }


def take_out(model: nn.Module, lists: Lists) -> None:
    """Delete modules from the lists that hold them; those that stay move up.

    Raises:
        PlanError: they are not all the modules of one list.
    """
    modules = dict(model.named_modules())
    holders = []
    for path, stay in lists.items():
        holder = modules.get(path)
        if not isinstance(holder, nn.ModuleList) or len(holder) != stay.numel():
            what = f"should be a ModuleList of {stay.numel()} modules"
            raise PlanError(what, where=path, hint="was the plan made for another network?")
        holders.append((holder, stay))
    for holder, stay in holders:  # found before any is renumbered: a module may hold further lists
        for number in reversed((~stay).nonzero().flatten().tolist()):
            del holder[number]


def name_left(lists: Lists, dense: str) -> str | None:
    """What a tensor or module is called after `take_out`; None where it leaves."""
    if not lists:
        return dense
    named, path = [], ""
    for part in dense.split("."):
        stay = lists.get(path)
        path = f"{path}.{part}".lstrip(".")
        if stay is not None and part.isdecimal() and int(part) < stay.numel():
            if not bool(stay[int(part)]):
                return None
            part = str(int(stay[: int(part)].sum()))
        named.append(part)
    return ".".join(named)


def name_before(lists: Lists, left: str) -> str:
    """What a tensor that is left was called before: the inverse of `name_left`."""
    path = ""
    for part in left.split("."):
        stay = lists.get(path)
        if stay is not None and part.isdecimal() and int(part) < int(stay.sum()):
            part = str(int(stay.nonzero()[int(part)]))
        path = f"{path}.{part}".lstrip(".")
    return path


def names_left(groups: Groups, masks: Mapping[str, Tensor]) -> dict[str, str]:
    """What every tensor is called after `take_out`; those that left are missing."""
    lists = lists_of(groups, masks)
    named = {name: name_left(lists, name) for name in groups.shapes}
    return {name: left for name, left in named.items() if left is not None}

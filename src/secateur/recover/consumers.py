"""Consumers: the layers of a shrunk network that used to read what was removed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from secateur.errors import OptionError, PlanError
from secateur.mask.check import check_fits, check_shapes
from secateur.types.group import Groups, Member, Role
from secateur.types.kept import kept, spread
from secateur.types.layers import KINDS, Layer, alone, computes_otherwise
from secateur.types.plan import Plan

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True, slots=True, eq=False)
class Consumer:
    """A Linear layer or convolution, in the dense network and in the small one."""

    name: str  # path of the module
    dense: Layer
    small: Layer
    inputs: Tensor  # bool (size of the dense weight's dim 1,): which the small one still reads
    outputs: Tensor  # bool (size of dim 0,): which it still writes


def consumers(
    small: nn.Module, model: nn.Module, plan: Plan
) -> tuple[dict[str, Consumer], dict[str, str]]:
    """Every layer that read a removed unit, by name; and those that cannot be repaired, with the reason.

    Raises:
        PlanError: the plan does not fit the model, removes nothing, or `small` is not what it leaves.
        OptionError: the plan masks weights; nothing was cut out.
    """
    _check(small, model, plan)
    live = kept(plan.groups, plan.masks)
    found: dict[str, Consumer] = {}
    left: dict[str, str] = {}
    for group in plan.groups:
        for member in group.members:
            layer = member.name.removesuffix(".weight") if "." in member.name else ""
            cut = not bool(spread(plan.masks[group.name], member).all())
            if member.role is not Role.READS or not cut or layer in found:
                continue
            why = _refusal(model, plan.groups, member)
            if why:
                left[layer or member.name] = why
            elif member.dims == (1,):
                rows = torch.ones(member.shape[0], dtype=torch.bool)
                found[layer] = Consumer(
                    layer,
                    _layer(model, layer),
                    _layer(small, layer),
                    live[member.name][(1,)],
                    live[member.name].get((0,), rows),
                )
    return found, left


def _check(small: nn.Module, model: nn.Module, plan: Plan) -> None:
    check_fits(model, plan)
    given: object = small
    if not isinstance(given, nn.Module):
        raise PlanError(f"a shrunk network was expected, found {type(given).__name__}")
    if plan.removed == 0:
        raise PlanError("the plan removes nothing", hint="then there is nothing to repair")
    for group in plan.groups:
        if not group.removable and not bool(plan.masks[group.name].all()):
            raise OptionError(
                f"its {group.kind}s are masked, not cut out",
                where=group.name,
                hint="only what read a cut channel can be repaired: sec.groups(..., sec.Channels())",
            )
    check_shapes(small, plan)


def _refusal(model: nn.Module, groups: Groups, member: Member) -> str:
    """Why the reader of a removed unit cannot be repaired; empty where it can."""
    path, _, attribute = member.name.rpartition(".")
    if "parametrizations." in member.name:
        return "its weight is parametrised"
    owner = model.get_submodule(path)
    kind = type(owner).__name__
    if isinstance(owner, _TRANSPOSED):
        return "transposed convolutions are not repaired"
    if not isinstance(owner, KINDS):
        return f"{kind} is neither a Linear layer nor a convolution"
    if attribute != "weight":
        return "its weight is computed from other parameters"
    if computes_otherwise(owner):
        return f"{kind} computes in its own way"
    if member.dims == (0,) and not isinstance(owner, nn.Linear) and owner.groups > 1:
        return ""  # each group reads its own channels, and leaves with them: nothing is missing
    if member.dims != (1,):
        return f"it reads along dim {member.dims[0]} of its weight"
    if not alone(model, owner.weight):
        return "it shares its weight with another layer"
    if any(c.weight == member.name and c.module != path for c in groups.contractions):
        return "its weight is multiplied outside of the layer"
    return ""


def _layer(model: nn.Module, path: str) -> Layer:
    layer = model.get_submodule(path)
    if not isinstance(layer, KINDS):
        raise PlanError(f"is a {type(layer).__name__} in the small network", where=path)
    return layer

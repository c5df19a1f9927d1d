"""Does a plan fit a network?"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils import parametrize

from secateur.errors import PlanError
from secateur.mask.modules import names_left
from secateur.types.kept import kept
from secateur.types.plan import Plan


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by their first name, as plans name them."""
    return dict(model.named_parameters()) | dict(model.named_buffers())


def check_fits(model: nn.Module, plan: Plan) -> None:
    """Every tensor that the plan knows must be there, in the size it had.

    Raises:
        PlanError: names the first tensor that is missing or has another shape.
    """
    given: tuple[object, object] = (model, plan)
    if not (isinstance(given[0], nn.Module) and isinstance(given[1], Plan)):
        kinds = " and ".join(type(value).__name__ for value in given)
        raise PlanError(f"a network and a plan were expected, found {kinds}")
    tensors = named_tensors(model)
    hint = "was the plan made for another network, or is this one already shrunk?"
    if any(map(parametrize.is_parametrized, model.modules())):
        hint += " It has parametrisations: of a network with gates, take gated.plain()"
    for name, shape in plan.groups.shapes.items():
        if name not in tensors:
            raise PlanError("the plan speaks of a tensor that this network lacks", name, hint)
        if tuple(tensors[name].shape) != shape:
            found = tuple(tensors[name].shape)
            raise PlanError(
                f"the plan was made for shape {shape}, this network has {found}", name, hint
            )
    for name in tensors:
        if name not in plan.groups.shapes:
            raise PlanError("the network has a tensor that the plan does not know", name, hint)


def check_shapes(small: nn.Module, plan: Plan) -> None:
    """Exactly what was announced must be gone.

    Raises:
        PlanError: a tensor has another shape than the plan says.
    """
    tensors_small = named_tensors(small)
    removable = [group for group in plan.groups if group.removable]
    masks = {group.name: plan.masks[group.name] for group in removable}
    live, called = kept(plan.groups, masks), names_left(plan.groups, masks)
    for name, shape in plan.groups.shapes.items():
        if name not in called:
            continue
        wanted = list(shape)
        for dims, keep in live.get(name, {}).items():
            if dims:
                wanted[dims[0]] = int(keep.sum())
        left = called[name]
        found = tuple(tensors_small[left].shape) if left in tensors_small else None
        if found != tuple(wanted):
            raise PlanError(
                f"should have shape {tuple(wanted)} by the plan, has {found}", where=name
            )
    for name in sorted((plan.groups.shapes.keys() - set(called.values())) & tensors_small.keys()):
        raise PlanError("should be gone by the plan", where=name)

"""Parametrisations on tensors by name: on every module that holds them, and off again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from secateur.errors import ModelError
from secateur.mask.check import named_tensors
from secateur.types.untouched import mode

Places = Mapping[str, tuple[tuple[nn.Module, str], ...]]
"""Tensor name → every (module, attribute) that registers it: several where it is shared."""


def holders(model: nn.Module) -> Places:
    """Where every parameter and buffer is registered."""
    names = {id(tensor): name for name, tensor in named_tensors(model).items()}
    places: dict[str, list[tuple[nn.Module, str]]] = {name: [] for name in names.values()}
    for module in model.modules():
        for attribute, tensor in chain(
            module.named_parameters(recurse=False, remove_duplicate=False),
            module.named_buffers(recurse=False, remove_duplicate=False),
        ):
            places[names[id(tensor)]].append((module, attribute))
    return {name: tuple(where) for name, where in places.items()}


def attach(places: Places, name: str, make: Callable[[int], nn.Module]) -> None:
    """Let a tensor go through `make(0)`, and through `make(1)`, ... where else it is registered.

    What was attached before comes first.

    Args:
        places: where tensors were registered before anything was attached.

    Raises:
        ModelError: the tensor had a parametrisation before, or cannot have one.
    """
    for i, (module, attribute) in enumerate(places[name]):
        if isinstance(module, parametrize.ParametrizationList):
            raise ModelError(
                "has a parametrisation already",
                where=name,
                hint="torch.nn.utils.parametrize.remove_parametrizations, or keep this layer whole",
            )
        try:
            parametrize.register_parametrization(module, attribute, make(i))
        except (RuntimeError, ValueError, KeyError) as error:
            raise ModelError(f"cannot have a parametrisation: {error}", where=name) from error


def values(places: Places, dropped: type[nn.Module] | tuple[()] = ()) -> dict[str, Tensor]:
    """Every tensor as its parametrisations make it, by name, in eval mode and without gradients.

    Args:
        dropped: parametrisations of this kind are left out.
    """
    found = {}
    for name, where in places.items():
        module, attribute = where[0]
        if not parametrize.is_parametrized(module, attribute):
            found[name] = getattr(module, attribute).detach()
            continue
        chain_of = getattr(module.parametrizations, attribute)
        with torch.no_grad(), mode(chain_of, training=False):
            tensor = chain_of.original
            for each in chain_of:
                tensor = tensor if isinstance(each, dropped) else each(tensor)
        found[name] = tensor.detach()
    return found


def like(tensor: Tensor, values: Tensor) -> Tensor:
    """The values as a parameter or a buffer, whichever the tensor is."""
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(values.clone(), requires_grad=tensor.requires_grad)
    return values.clone()

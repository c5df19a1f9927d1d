"""A network that exporters may have: a copy without what only training needs."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils import parametrize

from secateur.errors import ModelError
from secateur.granularity.refuse import refuse_wrapped


def plain_copy(model: nn.Module) -> nn.Module:
    """A copy on the CPU in eval mode, its parametrisations written as the values they give.

    Raises:
        ModelError: the network is wrapped, or cannot be copied.
    """
    refuse_wrapped(model)
    try:
        plain = copy.deepcopy(model).cpu().eval()
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ModelError(f"the network cannot be copied: {error}", where="export") from error
    for module in list(plain.modules()):
        if parametrize.is_parametrized(module):
            _write_out(module)
    return plain


def _write_out(module: nn.Module) -> None:
    """Plain tensors in the place of parametrised ones.

    `parametrize.remove_parametrizations` would take them from the class, which the module shares with
    those it was copied from.
    """
    with torch.no_grad():
        values = {name: getattr(module, name) for name in module.parametrizations}  # type: ignore[union-attr]
    module.__class__ = type(module).__bases__[0]
    del module.parametrizations
    for name, value in values.items():
        module.register_parameter(name, nn.Parameter(value.detach(), requires_grad=False))

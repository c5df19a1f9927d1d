"""Copies of a network that share its tensors until they get their own."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from secateur.errors import ModelError


def hollow_copy(model: nn.Module) -> tuple[nn.Module, dict[int, Tensor]]:
    """A copy that still shares its tensors with the model, and these tensors by identity.

    Raises:
        ModelError: the model cannot be copied.
    """
    owned = [*model.parameters(), *model.buffers()]
    tensors: dict[int, Tensor] = {id(tensor): tensor for tensor in owned}
    try:
        return copy.deepcopy(model, dict[int, Any](tensors)), tensors
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ModelError(f"the network cannot be copied: {error}") from error


def replace_tensors(model: nn.Module, replacements: Mapping[int, Tensor]) -> None:
    """Put the sliced tensors wherever the old ones are registered, so that shared ones stay shared."""
    for module in model.modules():
        for registry in (module._parameters, module._buffers):
            for name, tensor in list(registry.items()):
                if tensor is not None and id(tensor) in replacements:
                    # Through setattr: recurrent modules keep a second list of their weights.
                    setattr(module, name, replacements[id(tensor)])

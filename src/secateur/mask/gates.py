"""Gates: by which numbers a network chooses among its units, and how they are closed.

An expert whose weights are zero is chosen all the same, and takes the place and the share of another.
So a masked unit's column of what its gate returns is set far below all others: its share is then
exactly zero, and it is not chosen while another can be, just as when it is cut out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from secateur.errors import PlanError
from secateur.types.plan import Plan


def close_gates(model: nn.Module, plan: Plan) -> list[RemovableHandle]:
    """Close the gates of everything that the plan removes, until the handles are removed.

    Raises:
        PlanError: the network lacks a gate.
    """
    closed = {
        group.gate: _Closed(~plan.masks[group.name])
        for group in plan.groups
        if group.gate is not None and not bool(plan.masks[group.name].all())
    }
    modules = dict(model.named_modules()) if closed else {}
    for path in closed:
        if path not in modules:
            raise PlanError("the plan speaks of a gate that this network lacks", path)
    return [modules[path].register_forward_hook(hook) for path, hook in closed.items()]


def closing_names(plan: Plan) -> set[str]:
    """Tensors that are added to what a gate returns: masked, they are `low`, not zero."""
    return {m.name for group in plan.groups for m in group.members if m.closes}


def low(dtype: torch.dtype) -> float:
    """So low that exp() of it is 0, and finite, so that it times a derivative of 0 is 0."""
    return -float(torch.finfo(dtype).max ** 0.5)


@dataclass(frozen=True, slots=True, eq=False)
class _Closed:
    """A forward hook; a value, so that a network that holds it can be copied."""

    gone: Tensor  # bool (n,)

    def __call__(self, _module: nn.Module, _args: Any, out: Tensor) -> Tensor:
        return out.masked_fill(self.gone.to(out.device), low(out.dtype))

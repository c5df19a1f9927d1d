"""A network as a `torch.export` program, which every format is made of."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from secateur.errors import ModelError
from secateur.export.faults import told
from secateur.types.call import batch_size, of_size, tensors

_HINT = "what data decide in Python (if x.sum() > 0) cannot be exported: use torch.where"
_ALSO = (
    "other tensors have the batch as their first dim too: where one does not count samples, take an"
    " example of another batch; "
)
_FIXED = (
    "dynamic_batch=False writes it for the example's batch alone, if that is what is in the way; "
)


def arguments(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments of an example of any of its three forms."""
    if isinstance(example, Mapping):
        return (), dict(example)
    if isinstance(example, tuple | list):
        return tuple(example), {}
    return (example,), {}


def program(model: nn.Module, example: Any, *, dynamic_batch: bool) -> ExportedProgram:
    """The program of one forward pass.

    Args:
        model: in eval mode.
        example: with a dynamic batch, one of a single sample is traced with two: a dim of size one
            counts as fixed.
        dynamic_batch: the first dim of every tensor that has it as the first tensor has is free.

    Raises:
        DataError: the example holds no tensor with a dim.
        ModelError: torch.export cannot trace the network, or not with a free batch.
    """
    if dynamic_batch:
        example = of_size(example, max(2, batch_size(example)))
    args, named = arguments(example)
    size = batch_size(example)
    shapes = _free(model, args, named, size) if dynamic_batch else None
    counted = sum(x.dim() > 0 and x.shape[0] == size for x in tensors(example))
    hint = ((_ALSO if counted > 1 else "") + _FIXED if dynamic_batch else "") + _HINT
    with told("torch.export cannot trace it", hint), torch.no_grad():
        made = torch.export.export(model, args, named or None, dynamic_shapes=shapes)
    for node in made.graph.nodes:
        node.meta.pop(
            "stack_trace", None
        )  # lines of the user's code, with the paths of this machine
    return made


def refuse_numbers(traced: ExportedProgram) -> None:
    """For formats whose outputs are tensors: a number among them has no name there.

    Raises:
        ModelError: there is one.
    """
    for place, spec in enumerate(traced.graph_signature.output_specs):
        value = getattr(spec.arg, "value", None)
        if value is not None:
            raise ModelError(
                f"the network's output {place} is {value!r}, which is no tensor",
                where="export",
                hint="return tensors alone; TorchProgram() writes it as it is",
            )


def _free(
    model: nn.Module, args: tuple[Any, ...], named: dict[str, Any], size: int
) -> dict[str, Any]:
    """For every argument by its name, which dims are free."""
    batch = torch.export.Dim("batch", min=1)

    def free(value: Any) -> Any:
        if isinstance(value, Tensor):
            return {0: batch} if value.dim() and value.shape[0] == size else None
        if isinstance(value, Mapping):
            return {key: free(part) for key, part in value.items()}
        if isinstance(value, tuple | list):
            return type(value)([free(part) for part in value])
        return None

    bound = inspect.signature(model.forward).bind(*args, **named)
    return {name: free(value) for name, value in bound.arguments.items()}

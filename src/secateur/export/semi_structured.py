"""2:4 masks as torch's semi-structured sparse tensors, which GPUs multiply at twice the rate."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from secateur.errors import ModelError, PlanError
from secateur.mask.check import check_fits
from secateur.mask.copies import copy_with
from secateur.mask.shrink import shrink
from secateur.types.plan import Plan
from secateur.types.two_of_four import PATTERN, capable, compressed, of_size


def semi_structured(model: nn.Module, plan: Plan) -> nn.Module:
    """A copy in which Linear weights that keep 2 of every 4 inputs are semi-structured sparse.

    Other layers are masked as `shrink` masks them, and stay dense; so do Linear weights whose shape
    torch's kernels do not take (both sizes must be multiples of 64).

    Args:
        model: on a CUDA device of compute capability 8.0 or higher, in float16 or bfloat16.
        plan: of `Block(2, 4)`, or any other with the same pattern along the inputs.

    Raises:
        ModelError: the device or the dtype has no such kernels.
        PlanError: the plan does not fit the network, has no 2:4 weights of Linear layers, or none that
            the kernels take.
    """
    check_fits(model, plan)
    weights = _weights(model, plan)
    _check_device(next(iter(weights.values())))
    pruned = shrink(model, plan)
    sparse = {
        name: compressed(weight) for name, weight in pruned.named_parameters() if name in weights
    }
    return copy_with(pruned, sparse.get)


def _weights(model: nn.Module, plan: Plan) -> dict[str, Tensor]:
    """The Linear weights, by name, of which every four inputs keep two."""
    linear = {
        f"{name}.weight".lstrip("."): module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    }
    found = {}
    for group in plan.groups:
        member = group.members[0]
        blocks = member.unit_of.view(member.shape) if group.pattern == PATTERN else None
        if member.name not in linear or blocks is None:
            continue
        rows, inputs = member.shape
        along_inputs = torch.arange(rows * inputs).view(rows, inputs)
        if torch.equal(blocks, along_inputs) and of_size(member.shape):
            found[member.name] = linear[member.name]
    if not found:
        raise PlanError(
            "there is no Linear weight that keeps 2 of every 4 inputs and has sizes that are"
            " multiples of 64",
            hint="prune with granularity block:2:4",
        )
    return found


def _check_device(weight: Tensor) -> None:
    if not capable(weight):
        raise ModelError(
            f"semi-structured weights run on CUDA from compute capability 8.0, in float16 or bfloat16;"
            f" these are {weight.dtype} on {weight.device}",
            hint="model.to('cuda', torch.float16)",
        )

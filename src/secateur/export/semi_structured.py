"""2:4 masks as torch's semi-structured sparse tensors, which GPUs multiply at twice the rate."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.sparse import to_sparse_semi_structured

from secateur.errors import ModelError, PlanError
from secateur.mask.check import check_fits
from secateur.mask.copies import copy_with
from secateur.mask.shrink import shrink
from secateur.types.plan import Plan

PATTERN = (2, 4)
DTYPES = (torch.float16, torch.bfloat16)


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


def compressed(weight: Tensor) -> nn.Parameter:
    """The weight of a Linear layer as a semi-structured tensor, without gradients."""
    return nn.Parameter(to_sparse_semi_structured(weight.detach()), requires_grad=False)


def compressible(weight: Tensor) -> bool:
    """Whether the kernels take the weight of a Linear layer: its device, dtype, sizes and zeros."""
    return _capable(weight) and _of_size(weight.shape) and _has_pattern(weight)


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
        if torch.equal(blocks, along_inputs) and _of_size(member.shape):
            found[member.name] = linear[member.name]
    if not found:
        raise PlanError(
            "there is no Linear weight that keeps 2 of every 4 inputs and has sizes that are"
            " multiples of 64",
            hint="prune with granularity block:2:4",
        )
    return found


def _of_size(shape: Sequence[int]) -> bool:
    return all(size % 64 == 0 for size in shape)


def _has_pattern(weight: Tensor) -> bool:
    """Whether no four inputs keep more than two."""
    kept, of = PATTERN
    return bool((weight.detach().unflatten(1, (-1, of)).count_nonzero(2) <= kept).all())


def _capable(weight: Tensor) -> bool:
    capable = weight.is_cuda and torch.cuda.get_device_capability(weight.device) >= (8, 0)
    return capable and weight.dtype in DTYPES


def _check_device(weight: Tensor) -> None:
    if not _capable(weight):
        raise ModelError(
            f"semi-structured weights run on CUDA from compute capability 8.0, in float16 or bfloat16;"
            f" these are {weight.dtype} on {weight.device}",
            hint="model.to('cuda', torch.float16)",
        )

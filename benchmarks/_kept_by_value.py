"""Find out what a pruner kept from the values alone, and mask the original accordingly.

Works for any pruner and believes none: every weight of the original is made unique, so each element
of the pruned network says where it came from.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

_LEFT_ALONE = ("running_var", "num_batches_tracked")  # a variance of zero would divide by nothing


@torch.no_grad()
def make_unique(model: nn.Module, seed: int) -> None:
    """Change every float64 parameter and statistic by a millionth at most, each differently.

    They were drawn in float32, where a million draws hold equal ones, and zeros.
    """
    draw = torch.Generator().manual_seed(seed)
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.dtype is torch.float64:
            tensor.add_(1e-6 * torch.rand(tensor.shape, generator=draw, dtype=torch.float64))


def masked_like(original: nn.Module, pruned: nn.Module) -> nn.Module | None:
    """A copy of the original in which all that the pruned network lacks is zero.

    Returns:
        None where an element of the pruned network is none of the original's, or where what is left
        of a tensor is not a choice of indices along its dims.
    """
    masked = copy.deepcopy(original)
    left = dict(pruned.named_parameters(remove_duplicate=False)) | dict(pruned.named_buffers())
    whole = dict(masked.named_parameters(remove_duplicate=False)) | dict(masked.named_buffers())
    masks = []  # all are found before the first is put on: shared tensors are met twice
    for name, tensor in whole.items():
        if tensor.dtype is not torch.float64 or name.endswith(_LEFT_ALONE):
            continue
        if name not in left:
            return None
        if left[name].shape == tensor.shape and torch.equal(left[name], tensor):
            continue
        kept = kept_indices(tensor.detach(), left[name].detach())
        if kept is None:
            return None
        masks.append((tensor, kept))
    with torch.no_grad():
        for tensor, kept in masks:
            for dim, index in enumerate(kept):
                gone = torch.ones(tensor.shape[dim], dtype=torch.bool)
                gone[index] = False
                tensor.index_fill_(dim, gone.nonzero().flatten(), 0)
    return masked


def kept_indices(before: Tensor, after: Tensor) -> list[Tensor] | None:
    """Per dim, which indices of `before` are left in `after`; None where they differ otherwise.

    All values of `before` must be different.
    """
    if before.dim() != after.dim() or after.numel() == 0:
        return None
    values, order = before.flatten().sort()
    if bool((values[1:] == values[:-1]).any()):
        return None
    found = torch.searchsorted(values, after.flatten()).clamp(max=len(values) - 1)
    if not torch.equal(values[found], after.flatten()):
        return None
    places = torch.unravel_index(order[found].reshape(after.shape), before.shape)
    kept = []
    for dim, place in enumerate(places):
        others = [d for d in range(after.dim()) if d != dim]
        rows = place.permute(dim, *others).reshape(after.shape[dim], -1)
        if not bool((rows == rows[:, :1]).all()):
            return None
        kept.append(rows[:, 0])
    return kept

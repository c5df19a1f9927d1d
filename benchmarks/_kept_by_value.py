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
    corner = (before == after.flatten()[0]).nonzero()
    if len(corner) != 1:
        return None
    kept, left = [], before
    for dim in range(before.dim()):
        indices = _places(
            _line(before, dim, corner[0]), _line(after, dim, torch.zeros_like(corner[0]))
        )
        if indices is None:
            return None
        kept.append(indices)
        left = left.index_select(dim, indices)
    return kept if torch.equal(left, after) else None


def _line(tensor: Tensor, dim: int, through: Tensor) -> Tensor:
    """The elements along a dim that pass through a place."""
    at = through.tolist()
    return tensor[tuple(slice(None) if d == dim else at[d] for d in range(tensor.dim()))]


def _places(before: Tensor, after: Tensor) -> Tensor | None:
    """Where in `before` each value of `after` is; None where one is not there exactly once."""
    values, order = before.sort()
    if bool((values[1:] == values[:-1]).any()):
        return None
    found = torch.searchsorted(values, after.contiguous()).clamp(max=len(values) - 1)
    return order[found] if torch.equal(values[found], after) else None

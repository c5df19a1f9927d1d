"""The tensors of a stored network, put into one of its shape."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from secateur.errors import PlanError
from secateur.mask.check import named_tensors


def fill(model: nn.Module, tensors: Mapping[str, Tensor], where: str = "") -> None:
    """Copy every parameter and buffer, bit for bit, in place; an error changes nothing.

    Args:
        tensors: one for each name of `named_tensors(model)`, of its shape and dtype.

    Raises:
        PlanError: they are of another network.
    """
    own = named_tensors(model)
    hint = "is it the network that the run was made with?"
    if own.keys() != tensors.keys():
        differ = sorted(own.keys() ^ tensors.keys())
        raise PlanError(f"stored and rebuilt network differ in {differ[0]}", where, hint)
    for name, tensor in tensors.items():
        mine = own[name]
        if tensor.shape != mine.shape or tensor.dtype != mine.dtype:
            raise PlanError(
                f"{name} is stored as {tensor.dtype} {tuple(tensor.shape)}, "
                f"rebuilt as {mine.dtype} {tuple(mine.shape)}",
                where,
                hint,
            )
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)


def filled(model: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """A copy of the network that holds these parameters and buffers; see `fill`."""
    network = copy.deepcopy(model)
    fill(network, tensors)
    return network

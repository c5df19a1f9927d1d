"""Networks whose weights are not there as plain numbers."""

from __future__ import annotations

from itertools import chain

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.sparse import SparseSemiStructuredTensor

from secateur.errors import ModelError
from secateur.types.kinds import no_network


def refuse_unbuilt(model: object, where: str) -> None:
    """Ask for a network all of whose parameters and buffers have dense values.

    Args:
        where: the function that was called, for messages.

    Raises:
        ModelError: it is no network; or a tensor of it is uninitialised (a lazy module that did not
            run yet), on the meta device, or sparse, as those of `sec.accelerate` are.
    """
    if not isinstance(model, nn.Module):
        raise no_network(model, where)
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if is_lazy(tensor):
            raise ModelError(
                "has no values yet", where=name, hint="run the lazy network once on an example"
            )
        if tensor.is_meta:
            raise ModelError(
                "has no values: it is on the meta device",
                where=name,
                hint="model.to_empty(device='cpu'), then load its weights",
            )
        if tensor.layout is not torch.strided or isinstance(tensor, SparseSemiStructuredTensor):
            raise ModelError(
                f"is sparse ({str(tensor.layout).removeprefix('torch.')}), not dense",
                where=name,
                hint=f"{where} takes the network as it was before sec.accelerate",
            )

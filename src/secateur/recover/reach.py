"""Running a network up to one layer, to see what goes in or comes out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from secateur.attention import written_out
from secateur.types.batches import Batch
from secateur.types.call import run
from secateur.types.layers import Layer


class _Reached(BaseException):
    """The layer was reached; no handler inside of the network takes it for an error."""


def given_to(layer: Layer, model: nn.Module, batch: Batch) -> Tensor | None:
    """What the layer's first run in this batch is given; None where it does not run."""
    found: list[Tensor] = []

    def stop(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.append(args[0] if args else kwargs["input"])
        raise _Reached

    handle = layer.register_forward_pre_hook(stop, with_kwargs=True)
    return _run(model, batch, handle, found)


def returned_by(layer: Layer, model: nn.Module, batch: Batch) -> Tensor | None:
    """What the layer's first run in this batch returns; None where it does not run."""
    found: list[Tensor] = []

    def stop(_module: nn.Module, _args: Any, out: Tensor) -> None:
        found.append(out)
        raise _Reached

    return _run(model, batch, layer.register_forward_hook(stop), found)


def _run(
    model: nn.Module,
    batch: Batch,
    handle: torch.utils.hooks.RemovableHandle,
    found: list[Tensor],
) -> Tensor | None:
    try:
        with written_out(model):
            run(model, batch.x, batch.where)
    except _Reached:
        return found[0].detach()
    finally:
        handle.remove()
    return None

"""What tests of relevance share: one batch, explained."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from secateur.saliency.lrp import LRP, Effects, Relevances
from secateur.types import Groups
from secateur.types.batches import Batch
from secateur.types.call import batch_size

NO_GROUPS = Groups(())


def batch(x: Any, y: Any = None) -> Batch:
    return Batch("batch 0", x, y, batch_size(x))


def effects(lrp: LRP, model: nn.Module, x: Any, y: Any = None) -> dict[str, Effects]:
    """As the engine collects them: in eval mode, with frozen parameters."""
    return lrp.collect(_ready(model), batch(x, y), NO_GROUPS, None)


def relevances(lrp: LRP, model: nn.Module, x: Any, y: Any = None) -> dict[str, list[Relevances]]:
    return lrp.relevances(_ready(model), batch(x, y))


def only(lrp: LRP, model: nn.Module, x: Any, y: Any = None) -> dict[str, tuple[Tensor, Tensor]]:
    """Relevances of (inputs, outputs) of layers that ran once."""
    found = relevances(lrp, model, x, y)
    assert all(len(runs) == 1 for runs in found.values())
    return {name: (runs[0].inputs, runs[0].outputs) for name, runs in found.items()}


def of_weights(found: Effects, shape: tuple[int, ...]) -> Tensor:
    """The relevance of every weight."""
    return (found.rows + found.columns).expand(shape)


def _ready(model: nn.Module) -> nn.Module:
    return model.eval().requires_grad_(False)


def logit(model: nn.Module, x: Tensor) -> Tensor:
    """The predicted logits, summed over the samples."""
    with torch.no_grad():
        return model(x).max(1).values.sum()

"""Networks to export, small and of several kinds, some of them pruned."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import secateur as sec
from tests.pipeline.small import net, part
from tests.zoo import more, traps

ZOO = {net.name: net for net in (*traps.NETS, *more.NETS)}


def of_zoo(name: str) -> tuple[nn.Module, Any]:
    """A network of the zoo in float32, and its example."""
    return ZOO[name].model(dtype=torch.float32), ZOO[name].inputs(dtype=torch.float32)


def pruned(model: nn.Module, example: Any, to: str, units: Any = None) -> nn.Module:
    """What is left of a network by magnitude."""
    groups = sec.groups(model, example, units or sec.Channels())
    scores = sec.score(model, groups, None, sec.Magnitude())
    return sec.shrink(model, sec.allocate(groups, scores, sec.Uniform(by="magnitude"), to))


def pruned_residual() -> tuple[nn.Module, Any]:
    """A convolutional network with a shortcut and BatchNorm at half its MACs."""
    x = part(2, seed=0).x
    return pruned(net(), x, "macs=0.5"), x

"""Give a network parameters with which equality of outputs is not vacuous."""

from __future__ import annotations

import torch
from torch import nn

_NORMS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
)


@torch.no_grad()
def randomise(model: nn.Module, seed: int) -> None:
    """Draw norm affines, biases, running statistics and constant parameters anew, in place.

    Fresh networks have unit gains, zero shifts, zero-mean statistics, zero-initialised last layers
    and layer scales of 1e-6: with those, many wrong removals leave the output as it was.
    """
    draw = torch.Generator().manual_seed(seed)
    norms = {
        id(m.weight) for m in model.modules() if isinstance(m, _NORMS) and m.weight is not None
    }
    for name, parameter in model.named_parameters():
        if not parameter.is_floating_point() or parameter.numel() == 0:
            continue
        short = name.rpartition(".")[2]
        if id(parameter) in norms:
            parameter.copy_(_uniform(parameter, 0.5, 1.5, draw))
        elif "bias" in short or "beta" in short:
            parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.3)
        elif (
            bool((parameter == parameter.flatten()[0]).all()) or float(parameter.abs().max()) < 1e-3
        ):
            parameter.copy_(_uniform(parameter, 0.3, 1.2, draw))
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_(torch.randn(buffer.shape, generator=draw) * 0.4)
        elif name.endswith("running_var"):
            buffer.copy_(_uniform(buffer, 0.5, 2.0, draw))


def _uniform(like: torch.Tensor, low: float, high: float, draw: torch.Generator) -> torch.Tensor:
    """Of random sign for weights, positive for statistics."""
    value = low + (high - low) * torch.rand(like.shape, generator=draw)
    if like.requires_grad:
        value *= torch.where(torch.rand(like.shape, generator=draw) < 0.3, -1.0, 1.0)
    return value

"""Scales that lose least, where the largest weight is not what matters most."""

from __future__ import annotations

import torch
from torch import Tensor

from secateur.learn.quantize import Quantizer, along, largest, short


def fitted(weights: Tensor, importance: Tensor, quantizer: Quantizer, where: str = "") -> Tensor:
    """float32 (outputs,), or () for one: the best of some fractions of the quantiser's own scale.

    Best is the least sum of importance * (weight - rounded weight)^2. Below the quantiser's own scale
    the largest weights are clipped, and all others are nearer to the grid. At one bit nothing is
    clipped, and the scale is the quantiser's own.

    Args:
        weights: float (outputs, inputs).
        importance: of the same shape, from 0: how much an error there counts.

    Raises:
        ModelError: a weight is not finite.
    """
    best = quantizer.scale(weights, where)
    if quantizer.bits == 1:
        return best
    own, least = best, torch.full_like(best, torch.inf, dtype=torch.float64)
    for fraction in _FRACTIONS:
        scale = short(own * fraction)
        error = _error(weights, importance, scale, quantizer)
        better = error < least
        best, least = scale.where(better, best), error.where(better, least)
    return best


def clipped(values: Tensor, scale: Tensor, quantizer: Quantizer) -> Tensor:
    """The nearest codes that the bits allow, float32, of the shape of `values`."""
    most = largest(quantizer.bits)
    return quantizer.round(values, scale).clamp_(-most, most)


def _error(weights: Tensor, importance: Tensor, scale: Tensor, quantizer: Quantizer) -> Tensor:
    """float64, one for each scale."""
    missing = weights - clipped(weights, scale, quantizer) * along(scale, weights.dim())
    each = (missing.double().square_() * importance).sum(1)
    return each if scale.dim() else each.sum()


_FRACTIONS = [1.0 - 0.02 * i for i in range(46)]

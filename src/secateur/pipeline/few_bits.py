"""Are the weights of a run quantised as it says?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from secateur.learn import Quantizer, codes
from secateur.learn.quantize import largest
from secateur.mask.check import named_tensors
from secateur.pipeline.check import Check


def few_bits(
    network: nn.Module, floats: nn.Module | None, quantizer: Quantizer, *, nearest: bool
) -> Check:
    """Every weight of two dims or more has no more codes than its bits allow, and the rest is as it was.

    Args:
        floats: the network before its weights were rounded; None where the run came in a bundle.
        nearest: rounded to the nearest, so that the floats tell the weights bit for bit.
    """
    before = {} if floats is None else named_tensors(floats)
    wrong = []
    for name, parameter in network.named_parameters():
        if parameter.dim() < 2 or not parameter.is_floating_point():
            same = name not in before or torch.equal(before[name], parameter)
        else:
            same = _few(parameter.detach(), quantizer)
            if name in before:
                same &= _follows(parameter.detach(), before[name], quantizer, nearest=nearest)
        if not same:
            wrong.append(name)
    bits = f"{quantizer.bits} bits"
    if wrong:
        return Check("weights", holds=False, seen=f"{wrong[0]} is not what {bits} make of it")
    return Check("weights", holds=True, seen=bits)


def _few(weights: Tensor, quantizer: Quantizer) -> bool:
    """Whether each scale has as few sizes of weights as there are codes above 0."""
    rows = weights.abs()
    rows = rows.flatten(1) if quantizer.per_channel else rows.flatten().unsqueeze(0)
    return all(int(row.unique().count_nonzero()) <= largest(quantizer.bits) for row in rows)


def _follows(weights: Tensor, before: Tensor, quantizer: Quantizer, *, nearest: bool) -> bool:
    """Whether rounding can have made these weights of those: zeros stay zero."""
    if nearest:
        return torch.equal(codes(before.detach(), quantizer).values().to(weights.dtype), weights)
    return not bool(weights[before == 0].any())

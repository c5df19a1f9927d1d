"""The penalty that makes masks certain: the entropy of the rows of logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def row_entropy(logits: Tensor) -> Tensor:
    """H(softmax(row)) in nats for every row: (rows, n) → (rows,), differentiable.

        H(p) = -sum_j p_j log p_j,   dH/dl_j = -p_j (log p_j + H)

    Highest, log n, where all logits of a row are equal; a constant added to a row changes nothing.
    """
    found: Tensor = _Entropy.apply(logits)
    return found


class _Entropy(torch.autograd.Function):
    """One exponential an element; automatic differentiation takes three passes more."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        shifted = logits - logits.amax(1, keepdim=True)
        p = shifted.exp()
        total = p.sum(1, keepdim=True)
        p /= total
        mean: Tensor = torch.linalg.vecdot(p, shifted).unsqueeze(1)
        ctx.save_for_backward(p, shifted.sub_(mean))  # log p + H
        return (total.log() - mean).squeeze(1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        p, centred = ctx.saved_tensors
        found: Tensor = (p * centred).mul_(-gradients[0].unsqueeze(1))
        return found

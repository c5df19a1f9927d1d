"""The penalty that makes masks certain: the entropy of the rows of logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


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
        e = shifted.exp()
        total = e.sum(1, keepdim=True)
        dot: Tensor = torch.linalg.vecdot(e, shifted)
        mean = dot.unsqueeze(1) / total
        ctx.save_for_backward(e, total, shifted, mean)
        return (total.log() - mean).squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        e, total, shifted, mean = ctx.saved_tensors
        scale = gradients[0].unsqueeze(1) / -total
        return torch.addcmul(-mean * scale, shifted, scale).mul_(e)  # p * -(log p + H) * gradient

"""The penalty that makes masks certain: the entropy of the rows of logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from secateur.learn import compiled


def row_entropy(logits: Tensor) -> Tensor:
    """H(softmax(row)) in nats for every row: (rows, n) → (rows,), differentiable.

        H(p) = -sum_j p_j log p_j,   dH/dl_j = -p_j (log p_j + H)

    Highest, log n, where all logits of a row are equal; a constant added to a row changes nothing.
    """
    found: Tensor = _Entropy.apply(logits)
    return found


def total_entropy(logits: Sequence[Tensor], *, by_loops: bool = False) -> Tensor:
    """The sum of `row_entropy` over all rows of several tensors, (), differentiable.

    Args:
        by_loops: float32 on the CPU goes through compiled loops.
    """
    found: Tensor = _Total.apply(by_loops, *logits)
    return found


class _Entropy(torch.autograd.Function):
    """torch's softmax and its backward pass are two fused calls; automatic differentiation takes eight."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        p, entropy = _entropy(logits)
        ctx.save_for_backward(logits, p)
        return entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _back(*ctx.saved_tensors).mul_(-gradients[0].unsqueeze(1))


class _Total(torch.autograd.Function):
    """All gates at once: most are so small that calls cost more than arithmetic."""

    @staticmethod
    def forward(ctx: Any, by_loops: bool, *logits: Tensor) -> Tensor:
        ctx.looped = [by_loops and compiled.fits(each) for each in logits]
        kept, found = [], []
        for each, looped in zip(logits, ctx.looped, strict=True):
            known, entropy = _by_loops(each) if looped else _entropy(each)
            kept.append(known)
            found.append(entropy)
        ctx.save_for_backward(*logits, *kept)
        return torch.cat(found).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        saved, factor = ctx.saved_tensors, gradients[0]
        half = len(saved) // 2
        triples = zip(saved[:half], saved[half:], ctx.looped, strict=True)
        return None, *(
            compiled.entropy_gradient(logits, known, factor.expand(len(logits)))
            if looped
            else _back(logits, known).mul_(-factor)
            for logits, known, looped in triples
        )


def _by_loops(logits: Tensor) -> tuple[Tensor, Tensor]:
    known = compiled.entropy(logits)
    return known, known[:, 2].to(logits.dtype)


def _entropy(logits: Tensor) -> tuple[Tensor, Tensor]:
    """softmax(row), (rows, n), and its entropy, (rows,): log sum exp l - sum_j p_j l_j."""
    with torch.autocast(logits.device.type, enabled=False):
        p = logits.softmax(1)
        below = logits - logits.amax(1, keepdim=True)  # large ones would cancel
        return p, p.amax(1).log().add_(torch.linalg.vecdot(p, below)).neg_()


def _back(logits: Tensor, p: Tensor) -> Tensor:
    """p_j * (l_j - sum_i p_i l_i) = -dH/dl_j."""
    found: Tensor = torch.ops.aten._softmax_backward_data(logits, p, 1, p.dtype)  # noqa: SLF001
    return found

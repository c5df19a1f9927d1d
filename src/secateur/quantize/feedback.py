"""Rounding with feedback: what one weight's rounding does wrong, the weights after it make good."""

from __future__ import annotations

import torch
from torch import Tensor

from secateur.errors import DataError
from secateur.learn.quantize import Quantizer
from secateur.quantize.scale import clipped


def feedback(
    weights: Tensor, gram: Tensor, scale: Tensor, quantizer: Quantizer, damping: float, where: str
) -> Tensor:
    """Codes, int8 (g, o, k), of the weights of g groups with o outputs and k inputs each.

    With H = X'X + damping * mean(diag X'X) * I of a group's inputs X, and column by column, those with
    the largest diagonal first:

        code_j  = round(w_j / scale);  the code of a weight that was zero is 0
        w_after = w_after - (w_j - scale * code_j) / [F^-1]_jj * [F^-1]_(j, after)

    where F are the rows and columns of H that are not rounded yet. This is the least change of
    ||X w - X w_before||^2 that the weights which follow can still bring about. All outputs share the
    order of the columns, so the rows of F^-1 are those of one Cholesky factor of H^-1.

    A masked weight is moved by the feedback as any other, and passes all of that on when its turn comes
    and it is rounded to zero. An input that was never seen gets no feedback.

    Args:
        weights: float64.
        gram: float64 (g, k, k): X'X.
        scale: float32 (g, o).
        where: the layer, for messages.

    Raises:
        DataError: the Gram matrix is not finite, or singular.

    Source: Frantar, Ashkboos, Hoefler, Alistarh, GPTQ, arXiv 2210.17323 (the factor, blocks, damping);
    Frantar, Singh, Alistarh, Optimal Brain Compression, arXiv 2208.11580 (the update). Order by diagonal
    is from the authors' code.
    """
    order = gram.diagonal(dim1=1, dim2=2).argsort(dim=1, descending=True, stable=True)
    columns = order.unsqueeze(1).expand_as(weights)
    left = weights.gather(2, columns)
    kept = left != 0
    factor = _factor(gram, order, damping, where)
    codes = torch.zeros_like(left)
    scales = scale.reshape(-1)
    for start in range(0, left.shape[2], _BLOCK):
        block = slice(start, min(start + _BLOCK, left.shape[2]))
        errors = torch.zeros_like(left[:, :, block])
        for j in range(block.start, block.stop):
            present = left[:, :, j]
            found = clipped(present.reshape(-1), scales, quantizer).view_as(present)
            codes[:, :, j] = found * kept[:, :, j]
            error = (present - codes[:, :, j] * scale) / factor[:, None, j, j]
            errors[:, :, j - start] = error
            left[:, :, j + 1 : block.stop] -= (
                error.unsqueeze(2) * factor[:, None, j, j + 1 : block.stop]
            )
        left[:, :, block.stop :].baddbmm_(errors, factor[:, block, block.stop :], alpha=-1)
    return torch.zeros_like(codes).scatter_(2, columns, codes).to(torch.int8)


def size(groups: int, outputs: int, inputs: int) -> int:
    """Bytes that `feedback` and the Gram matrix which it is given hold at most."""
    return 8 * groups * (5 * inputs * inputs + 8 * inputs * outputs)


def _factor(gram: Tensor, order: Tensor, damping: float, where: str) -> Tensor:
    """Upper triangular R, (g, k, k), with R'R the inverse of the damped Gram matrix in this order."""
    if not bool(gram.isfinite().all()):
        raise DataError("what it reads is not finite", where=where)
    ordered = gram.gather(1, order.unsqueeze(2).expand_as(gram))
    ordered = ordered.gather(2, order.unsqueeze(1).expand_as(gram))
    diagonal = ordered.diagonal(dim1=1, dim2=2)
    unseen = diagonal == 0
    diagonal += damping * diagonal.mean(1, keepdim=True)
    diagonal[unseen] = 1.0
    lower, failed = torch.linalg.cholesky_ex(ordered)
    pivots = lower.diagonal(dim1=1, dim2=2).square()
    if bool(failed.any()) or bool((pivots <= _SINGULAR * diagonal).any()):
        raise DataError(
            "its inputs depend on each other on these samples",
            where=where,
            hint="damping above 0, or more data",
        )
    factor: Tensor = torch.linalg.cholesky(torch.cholesky_inverse(lower), upper=True)
    return factor


_BLOCK = 128  # columns whose feedback goes to all later ones in one product of matrices

_SINGULAR = 1e-13  # of a pivot: what is left of it is rounding in float64

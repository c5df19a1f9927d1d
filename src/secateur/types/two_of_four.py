"""2:4 weights: of every four inputs two are kept, which GPUs multiply at twice the rate."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.sparse import to_sparse_semi_structured

PATTERN = (2, 4)
DTYPES = (torch.float16, torch.bfloat16)


def compressed(weight: Tensor) -> nn.Parameter:
    """The weight of a Linear layer as a semi-structured tensor, without gradients."""
    return nn.Parameter(to_sparse_semi_structured(weight.detach()), requires_grad=False)


def compressible(weight: Tensor) -> bool:
    """Whether torch's kernels take the weight of a Linear layer: its device, dtype, sizes and zeros."""
    return capable(weight) and of_size(weight.shape) and has_pattern(weight)


def capable(weight: Tensor) -> bool:
    """Whether there are kernels for its device and dtype: CUDA from compute capability 8.0."""
    there = weight.is_cuda and torch.cuda.get_device_capability(weight.device) >= (8, 0)
    return there and weight.dtype in DTYPES


def of_size(shape: Sequence[int]) -> bool:
    """Whether the kernels take a weight of this shape."""
    return all(size % 64 == 0 for size in shape)


def has_pattern(weight: Tensor) -> bool:
    """Whether no four inputs of a weight (outs, ins) keep more than two; ins is a multiple of four."""
    kept, of = PATTERN
    return bool((weight.detach().unflatten(1, (-1, of)).count_nonzero(2) <= kept).all())

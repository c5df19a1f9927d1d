"""Images moved and mirrored at random, so that a small network learns more from few."""

from __future__ import annotations

import torch
from torch import Tensor


def moved(x: Tensor, shift: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Each image moved by up to `shift` pixels (its border repeated) and mirrored at even odds.

    Args:
        x: (N, C, H, W).
    """
    n, _, height, width = x.shape

    def offsets() -> Tensor:
        return torch.randint(-shift, shift + 1, (n, 1), generator=generator)

    rows = (torch.arange(height) + offsets()).clamp(0, height - 1)
    columns = (torch.arange(width) + offsets()).clamp(0, width - 1)
    if flip:
        mirrored = torch.rand(n, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    picked = x[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2).contiguous()

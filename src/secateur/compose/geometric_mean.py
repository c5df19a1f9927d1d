"""The arithmetic of a product."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from secateur.errors import ScoreError


def geometric_mean(
    parts: Sequence[object], scaled: Sequence[Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """The k-th root of the product of k rows of normalised scores, group by group.

    Args:
        parts: whose rows they are, for the error.
        scaled: of each part, group name → float64 (n,).

    Returns:
        group name → float64 (n,).

    Raises:
        ScoreError: a score is below zero.
    """
    for part, row in zip(parts, scaled, strict=True):
        for group, values in row.items():
            if bool((values < 0).any()):
                raise ScoreError(
                    "a score is below zero, and two of them would multiply to a high one",
                    where=f"{part}, {group}",
                    hint="bring them into [0, 1]: (a * b).normalised(MinMax())",
                )
    root = 1.0 / len(scaled)  # of each factor, so that no product of small numbers becomes 0
    return {
        group: torch.stack([row[group] for row in scaled]).pow(root).prod(0) for group in scaled[0]
    }

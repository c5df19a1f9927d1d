"""The arithmetic of a blend."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from secateur.compose.rounded import rounded
from secateur.compose.scope import Scope, over

Row = Mapping[str, Tensor]


def weighted_sum(
    rows: Sequence[Row], scaled: Sequence[Row], weights: Sequence[float], scope: Scope
) -> dict[str, Tensor]:
    """Sum of weight times normalised scores, group by group.

    Where one row alone has weight, the result has exactly its order, or the reverse for a negative
    weight: there is nothing to weigh it against, so rounding may not decide either.

    Args:
        rows: of each part, group name → float32 (n,).
        scaled: the same, normalised: float64 (n,).
        scope: within which the order of a single row is kept.

    Returns:
        group name → float32 (n,).
    """
    total = {group: torch.zeros(len(row), dtype=torch.float64) for group, row in rows[0].items()}
    for weight, row in zip(weights, scaled, strict=True):
        total = {group: values + weight * row[group] for group, values in total.items()}
    heard = [i for i, weight in enumerate(weights) if weight != 0.0]
    if len(heard) != 1:
        return {group: values.float() for group, values in total.items()}
    sign = math.copysign(1.0, weights[heard[0]])
    order = {group: sign * values for group, values in rows[heard[0]].items()}
    return over(scope, rounded, total, order)

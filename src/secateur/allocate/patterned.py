"""Groups that keep k of every m units, whatever the budget."""

from __future__ import annotations

import torch
from torch import Tensor

from secateur.errors import ScoreError
from secateur.types.group import Group


def patterned(group: Group, scores: Tensor, k: int, m: int) -> Tensor:
    """The mask, bool (n,): of every m units the m - k lowest leave, of equal ones the first.

    Raises:
        ScoreError: the group is no whole number of blocks.
    """
    if not 1 <= k <= m or group.size % m:
        raise ScoreError(
            f"{group.size} units cannot keep {k} of every {m}",
            where=group.name,
            hint="blocks must fill the group",
        )
    rows = scores.reshape(-1, m)
    lowest = rows.argsort(dim=1, stable=True)[:, : m - k]
    return torch.ones_like(rows, dtype=torch.bool).scatter_(1, lowest, False).reshape(-1)

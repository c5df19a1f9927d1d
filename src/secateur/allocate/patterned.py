"""Groups that keep k of every m units, whatever the budget."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from secateur.allocate.order import NEVER
from secateur.errors import ScoreError
from secateur.types.group import Group, Groups


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


def before_all(groups: Groups, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Where an `Order` begins, int64 (n,) a group: what a pattern drops is gone, all else stays."""
    return {
        g.name: torch.full((g.size,), NEVER, dtype=torch.int64)
        if g.pattern is None
        else torch.where(patterned(g, scores[g.name], *g.pattern), NEVER, -1)
        for g in groups
    }

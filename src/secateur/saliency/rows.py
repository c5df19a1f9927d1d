"""Rows that grow in their place: those of a state, with room behind them for what comes next.

To put rows behind others by `torch.cat` moves them all each time, and what stays between activations
that come and go leaves holes which no larger tensor fits in. So room is taken once for all rows that
may come, where that can be told. A system gives memory to what is written: room alone costs nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

_USED = "_secateur_used"  # of a storage: what is behind so many bytes belongs to nobody yet


def grown(rows: Tensor, more: int, most: int = 0) -> tuple[Tensor, Tensor]:
    """The rows, (n, ...), with `more` behind them, (n + more, ...), and these alone, to be filled.

    The given rows stay what they are. Where they are the last that were put into their memory, the
    new ones are put behind them; else, and where there is no room left, all move to a larger one.

    Args:
        rows: (n, ...); n may be 0.
        more: how many are added.
        most: how many there will be in the end, if that can be told; else twice as many.
    """
    count, shape = len(rows) + more, rows.shape[1:]
    each = shape.numel() * rows.element_size()
    room = rows.untyped_storage()
    whole_of_it = rows.is_contiguous() and getattr(room, _USED, -1) == len(rows) * each
    if whole_of_it and room.nbytes() >= count * each:
        whole = torch.as_strided(rows, (count, *shape), rows.stride(), 0)
    else:
        whole = rows.new_empty(most if most >= count else 2 * count, *shape)[:count]
        whole[: len(rows)] = rows
        room = whole.untyped_storage()
    setattr(room, _USED, count * each)
    return whole, whole[len(rows) :]

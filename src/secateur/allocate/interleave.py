"""One queue out of many: every group loses its lowest units first; keys say whose turn it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from secateur.allocate.order import Order
from secateur.allocate.patterned import before_all
from secateur.allocate.widths import least_kept
from secateur.types.group import Group, Groups


class _Queue(NamedTuple):
    """What one group can lose."""

    group: Group
    units: Tensor  # int64 (r,): the units that may leave, first to go first
    block: Tensor  # int64 (r,): units of one block leave together; ascending from 0
    keys: Tensor  # float64 (blocks,): never falling


def interleave(
    groups: Groups,
    scores: Mapping[str, Tensor],
    key: Callable[[Tensor], Tensor],
    *,
    floor: int | float = 1,
    round_to: int = 1,
) -> Order:
    """Order the removals of all groups; a block whose mean key is lower leaves earlier.

    Inside a group the lower score leaves first, of equal scores the lower index; of equal keys the
    earlier group. Groups with a pattern lose exactly what it says before the first step.

    Args:
        key: scores in ascending order, (n,), → keys that never fall, (n,).
        floor: what stays of every group: a fraction of it (float) or a number of units (int).
        round_to: how many stay is a multiple of this, in every group that loses any.
    """
    when = before_all(groups, scores)
    queues = [
        _queue(
            group,
            scores[group.name],
            key,
            max(least_kept(group.size, floor), group.least.units),
            round_to,
        )
        for group in groups
        if group.pattern is None
    ]
    keys = torch.cat([queue.keys for queue in queues]) if queues else torch.empty(0)
    turn = torch.empty(keys.numel(), dtype=torch.int64)
    turn[keys.argsort(stable=True)] = torch.arange(keys.numel())
    first = 0
    for queue in queues:
        when[queue.group.name][queue.units] = turn[first + queue.block]
        first += queue.keys.numel()
    return Order(when, keys.numel())


def _queue(
    group: Group, scores: Tensor, key: Callable[[Tensor], Tensor], least: int, round_to: int
) -> _Queue:
    ascending, units = scores.sort(stable=True)
    least = math.ceil(least / round_to) * round_to
    removable = max(group.size - least, 0)
    # the first block brings the width to a multiple; after it every block is a whole one
    odd = group.size % round_to
    block = (torch.arange(removable) + (round_to - odd) % round_to) // round_to
    keys = key(ascending)[:removable].double()
    if round_to > 1:
        count = int(block[-1]) + 1 if removable else 0
        sums = torch.zeros(count, dtype=torch.float64).index_add_(0, block, keys)
        means = sums / block.bincount(minlength=count)
        # means of equal keys may differ in the last bit, and no block may overtake an earlier one
        keys = means.cummax(0).values if count else means
    return _Queue(group, units[:removable], block, keys)

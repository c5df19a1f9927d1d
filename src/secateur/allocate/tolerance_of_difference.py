"""How far two rankings of the same units disagree about what may leave.

One ranking says what may be removed, the other what must be protected. If the m units that leave
first and the m that are protected most have few units in common, m may leave.

Source: Lin et al., Leveraging Tolerance of Difference: FAIR-Pruner, arXiv 2508.02291.
"""

from __future__ import annotations

import torch
from torch import Tensor


def places(scores: Tensor, *, highest: bool = False) -> Tensor:
    """Where each unit stands when scores are sorted, int64 like `scores`; 0 is first.

    Of equal scores the lower index stands first, whether the lowest or the highest score leads.

    Args:
        scores: (..., n): each row is sorted by itself.
    """
    order = scores.sort(dim=-1, descending=highest, stable=True).indices
    ascending = torch.arange(order.shape[-1]).expand_as(order)
    return torch.empty_like(order).scatter_(-1, order, ascending)


def overlaps(removal: Tensor, protect: Tensor) -> Tensor:
    """How many units the first m of both orders have in common: int64 (..., n), at index m - 1.

    A unit is among the first m of both from the later of its two places on. So one sort of each
    ranking and one running count serve all m.

    Args:
        removal: (..., n): the lowest leave first.
        protect: (..., n): the highest are protected first.
    """
    last = torch.maximum(places(removal), places(protect, highest=True))
    return torch.zeros_like(last).scatter_add_(-1, last, torch.ones_like(last)).cumsum(-1)


def tolerance_of_difference(removal: Tensor, protect: Tensor) -> Tensor:
    """ToD(m) = |Rem(m) ∩ Prot(m)| / m, float64 (..., n), at index m - 1.

    Rem(m) are the m units of lowest removal score, Prot(m) the m of highest protection score; of
    equal scores the lower index comes first in both. Each value is the double nearest to the
    fraction, so that it equals an alpha that is written as the same fraction.
    """
    common = overlaps(removal, protect).double()
    return common / torch.arange(1, common.shape[-1] + 1)


def smallest_alphas(removal: Tensor, protect: Tensor, depths: Tensor) -> Tensor:
    """The smallest alpha at which so many or more units leave: float64 (..., d), never falling.

    The depth at alpha is the *largest* one whose ToD is at most alpha, even if that of a smaller
    one is more. So m units leave from min over m' >= m of ToD(m') on.

    Args:
        depths: int64 (d,): how many units may leave, ascending from 1.
    """
    found = tolerance_of_difference(removal, protect)[..., depths - 1]
    return found.flip(-1).cummin(-1).values.flip(-1)

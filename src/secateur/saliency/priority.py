"""A random choice of samples that does not depend on how the data was split or ordered.

Every sample has a number that follows from the sample itself; of each class those with the lowest
numbers are kept. Two parts of the data then keep together what the whole would have kept ("bottom-k"
sampling; Cohen and Kaplan, Summarizing Data using Bottom-k Sketches, PODC 2007).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from secateur.types.batches import Batch
from secateur.types.call import tensors

_CHUNK = 2**22  # elements that are worked on at a time
_MIX = (-7046029254386353131, -4417276706812531889)  # odd: 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F


def priorities(batch: Batch, seed: int) -> Tensor:
    """A number for each sample, int64 (samples,): equal inputs, equal numbers."""
    inputs = [t for t in tensors(batch.x) if t.dim() and len(t) == batch.samples]
    total = torch.zeros(batch.samples, dtype=torch.int64, device=inputs[0].device)
    generator = torch.Generator().manual_seed(seed)
    for tensor in inputs:
        rows = tensor.detach().reshape(batch.samples, -1)
        factors = torch.randint(-(2**62), 2**62, (rows.shape[1],), generator=generator)
        factors = (2 * factors + 1).to(rows.device)
        some = max(1, _CHUNK // max(rows.shape[1], 1))
        parts = [(_whole(part) * factors).sum(1) for part in rows.split(some)]
        total = total + torch.cat(parts)
    return _mixed(total)


class Kept(NamedTuple):
    """What is held of a layer after one more batch."""

    classes: Tensor  # int64 (rows,)
    order: Tensor  # int64 (rows,): priorities
    still: Tensor | None  # int64: which of the rows before stay; None: all of them
    new: Tensor  # int64: which samples of the batch are added, ascending
    most: int  # rows that there may be in the end, if classes have no higher number; 0: no saying


def with_batch(
    before: tuple[Tensor, Tensor] | None,
    batch: tuple[Tensor, Tensor],
    per_class: int | None,
    total: int,
) -> Kept:
    """The rows that stay of those before and a batch, each given as classes and priorities."""
    held = 0 if before is None else len(before[0])
    classes, order = batch if before is None else map(torch.cat, zip(before, batch, strict=True))
    stay = kept_rows(classes, order, per_class, total)
    still, new = stay[stay < held], stay[stay >= held] - held
    most = min(total, (per_class or 0) * (int(classes.max()) + 1))
    return Kept(classes[stay], order[stay], None if len(still) == held else still, new, most)


def kept_rows(classes: Tensor, order: Tensor, per_class: int | None, total: int) -> Tensor:
    """Which rows stay: those of lowest priority in each class; int64, ascending.

    Each class keeps equally many: at most `per_class`, and in all about `total`. Where not even two
    of each class fit, some classes leave, the same ones wherever they are seen.

    What stays of two parts' rows together is what would have stayed of the whole: with more
    classes each keeps fewer, and who leaves of fewer leaves of more as well.
    """
    labels = classes.unique()
    fitting = max(2, total // 2)
    each = max(2, total // max(1, min(len(labels), fitting)))
    most = each if per_class is None else min(per_class, each)
    ranked = order.argsort(stable=True)
    if len(labels) > fitting:
        some = labels[_mixed(labels * _MIX[0]).argsort()[:fitting]]
        ranked = ranked[torch.isin(classes[ranked], some)]
    ranked = ranked[classes[ranked].argsort(stable=True)]  # by class, inside it by priority
    sizes = classes[ranked].unique_consecutive(return_counts=True)[1]
    starts = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    place = torch.arange(len(ranked), device=classes.device) - starts
    return ranked[place < most].sort().values


def _mixed(numbers: Tensor) -> Tensor:
    """Whole numbers as random ones; sums of products are no good in their low bits."""
    for factor in _MIX:
        numbers = (numbers ^ (numbers >> 29)) * factor
    return numbers ^ (numbers >> 32)


def _whole(values: Tensor) -> Tensor:
    """Numbers as whole ones, int64, different where they differ."""
    if values.is_complex():
        values = torch.view_as_real(values).flatten(1)
    if values.is_floating_point():
        wide = values.to(torch.float64) + 0.0  # minus zero is zero
        bits = wide.view(torch.int64)
        return bits ^ (bits >> 32)  # of short numbers, as 0 and 1, all low bits are zero
    return values.to(torch.int64)

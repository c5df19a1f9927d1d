"""Distances between classes: the largest 1-Wasserstein distance of any two, sliced where points have
several coordinates.

In one dimension the distance between two samples is the area between their quantile functions, which
are staircases: exact for samples of any sizes. In several it is the mean over directions of the
distance between projections (sliced; Rabin et al., Wasserstein Barycenter and its Application to
Texture Mixing, SSVM 2011).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

_CHUNK = 2**18  # numbers that are worked on at a time: they stay in the cache


@lru_cache(maxsize=16)
def directions(positions: int, count: int, seed: int) -> Tensor:
    """Random unit vectors, float32 (positions, count), the same for one seed on every machine."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(positions, count, generator=generator, dtype=torch.float64)
    unit: Tensor = drawn / drawn.norm(dim=0)
    return unit.float()


def pairs_of(classes: int, most: int, seed: int) -> Tensor | None:
    """Pairs of classes to compare, int64 (2, pairs); None for all of them.

    Where there are more than `most`, about so many are drawn: the classes stand in a circle in random
    order, and each is compared with those a few random distances away, so that none is left out and
    all are compared equally often.
    """
    if classes * (classes - 1) // 2 <= most:
        return None
    generator = torch.Generator().manual_seed(seed)
    circle = torch.randperm(classes, generator=generator)
    shifts = torch.randperm((classes - 1) // 2, generator=generator) + 1
    chosen = shifts[: max(1, most // classes)].tolist()
    return torch.stack([circle.repeat(len(chosen)), torch.cat([circle.roll(s) for s in chosen])])


def largest_distance(classes: Sequence[Tensor], pairs: Tensor | None) -> Tensor:
    """The largest distance between two classes for every unit, float64 (k,).

    Args:
        classes: at least two; of each the samples' projections, (samples, k, directions), at least
            one sample.
        pairs: which to compare; None: every two.
    """
    steps = _steps([len(values) for values in classes])
    units, slices = classes[0].shape[1:]
    width = max(1, _CHUNK // (len(classes) * slices * len(steps.widths)))
    found = [
        _largest([values[:, first : first + width] for values in classes], steps, pairs)
        for first in range(0, units, width)
    ]
    return torch.cat(found) / slices


class _Steps:
    """The common steps of the quantile functions of samples of several sizes."""

    def __init__(self, widths: Tensor, ranks: dict[int, Tensor]) -> None:
        self.widths = widths  # float64 (steps,), 1 in all
        self.ranks = ranks  # size of a sample → int64 (steps,): which of its values, in order


def _steps(sizes: Sequence[int]) -> _Steps:
    different = sorted(set(sizes))
    whole = math.lcm(*different)  # in units of 1 / whole every step ends at a whole number
    ends = sorted({i * (whole // size) for size in different for i in range(1, size + 1)})
    starts = [0, *ends[:-1]]
    widths = [(end - start) / whole for start, end in zip(starts, ends, strict=True)]
    ranks = {size: torch.tensor([s * size // whole for s in starts]) for size in different}
    return _Steps(torch.tensor(widths, dtype=torch.float64), ranks)


def _largest(classes: Sequence[Tensor], steps: _Steps, pairs: Tensor | None) -> Tensor:
    """Of some units: sums over directions, float64 (units,)."""
    device = classes[0].device
    widths = steps.widths.to(device, classes[0].dtype)
    rows = [_sorted(values) for values in classes]
    if len(steps.ranks) > 1:
        rows = [row[..., steps.ranks[row.shape[-1]].to(device)] for row in rows]
    # (units, classes, directions * steps): their L1 distance is that of the samples
    table = torch.stack([(row * widths).flatten(1) for row in rows], 1)
    if pairs is None:
        return torch.stack([torch.pdist(each, p=1.0).max() for each in table]).double()
    left, right = pairs.to(device)
    some = max(1, _CHUNK // table.shape[2])
    return torch.stack(
        [
            torch.stack(
                [
                    (each[a] - each[b]).abs().sum(1).max()
                    for a, b in zip(left.split(some), right.split(some), strict=True)
                ]
            ).max()
            for each in table
        ]
    ).double()


def _sorted(values: Tensor) -> Tensor:
    """(samples, units, directions) to (units, directions, samples), ascending."""
    rows = values.permute(1, 2, 0)
    if rows.device.type != "cpu":
        return rows.sort(-1).values
    # numpy sorts many short rows several times faster than torch
    return torch.from_numpy(np.sort(rows.contiguous().numpy(), axis=-1))

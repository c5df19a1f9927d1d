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
from dataclasses import dataclass
from functools import lru_cache

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


def largest_distance(
    values: Tensor, classes: Sequence[Tensor], pairs: Tensor | None, onto: Tensor | None = None
) -> Tensor:
    """The largest distance between two classes for every unit, float64 (k,).

    Few units and directions are worked on at a time: beside the values, little memory is needed.

    Args:
        values: each sample's point for each unit, (samples, k, p).
        classes: at least two; of each its rows of `values`, int64, at least one.
        pairs: which to compare, as numbers of classes; None: every two.
        onto: the directions that points are projected on, (p, directions); None: each coordinate.
    """
    slices = values.shape[2] if onto is None else onto.shape[1]
    steps = _steps([len(rows) for rows in classes])
    rows = torch.cat([classes[number] for alike in steps.alike.values() for number in alike])
    each = len(classes) * len(steps.widths)  # numbers of one unit in one direction
    some = min(slices, max(1, _CHUNK // each))
    width = max(1, _CHUNK // (each * some))
    found = []
    for units in values.split(width, 1):
        total = torch.zeros((), dtype=torch.float64, device=values.device)
        points = units.index_select(0, rows)
        for first in range(0, slices, some):
            seen = slice(first, first + some)
            shown = _turned(points[..., seen]) if onto is None else _onto(points, onto[:, seen])
            total = total + _distances(shown, steps, pairs)
        found.append(total.amax(1))
    return torch.cat(found) / slices


def _turned(points: Tensor) -> Tensor:
    """Samples last, (units, slices, samples), in memory of its own."""
    samples, units, slices = points.shape
    # of a matrix torch has a quick way to do so, and not of three dims
    turned = torch.empty(units * slices, samples, dtype=points.dtype, device=points.device)
    return turned.copy_(points.reshape(samples, -1).t()).view(units, slices, samples)


def _onto(points: Tensor, some: Tensor) -> Tensor:
    """The points on some directions, (units, directions, samples)."""
    found: Tensor = some.t() @ points.permute(1, 2, 0)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Steps:
    """The common steps of the quantile functions of samples of several sizes."""

    widths: Tensor  # float64 (steps,), 1 in all
    ranks: dict[int, Tensor]  # size of a sample → int64 (steps,): which of its values, in order
    alike: dict[int, list[int]]  # size of a sample → the classes that have it


def _steps(sizes: Sequence[int]) -> _Steps:
    different = sorted(set(sizes))
    whole = math.lcm(*different)  # in units of 1 / whole every step ends at a whole number
    ends = sorted({i * (whole // size) for size in different for i in range(1, size + 1)})
    starts = [0, *ends[:-1]]
    widths = [(end - start) / whole for start, end in zip(starts, ends, strict=True)]
    ranks = {size: torch.tensor([s * size // whole for s in starts]) for size in different}
    alike = {size: [i for i, other in enumerate(sizes) if other == size] for size in different}
    return _Steps(torch.tensor(widths, dtype=torch.float64), ranks, alike)


def _distances(values: Tensor, steps: _Steps, pairs: Tensor | None) -> Tensor:
    """Of some units in some directions: sums over the directions, float64 (units, pairs)."""
    table = _quantiles(values, steps)
    if pairs is None:
        return torch.stack([torch.pdist(each, p=1.0) for each in table]).double()
    some = max(1, _CHUNK // table.shape[2])
    parts = [part.to(values.device) for part in pairs.split(some, 1)]
    rows = [
        torch.cat([(each[left] - each[right]).abs().sum(1) for left, right in parts])
        for each in table
    ]
    return torch.stack(rows).double()


def _quantiles(values: Tensor, steps: _Steps) -> Tensor:
    """Rows whose L1 distance is that of the classes, (units, classes, directions * steps).

    Args:
        values: (units, directions, samples), sorted where it lies; classes of one size side by side.
    """
    units, slices, _ = values.shape
    sizes = [size * len(alike) for size, alike in steps.alike.items()]
    parts = [
        _sorted(part.unflatten(-1, (-1, size))).transpose(
            1, 2
        )  # (units, classes, directions, size)
        for size, part in zip(steps.alike, values.split(sizes, -1), strict=True)
    ]
    if len(parts) == 1:
        return parts[0].flatten(2).mul_(1 / parts[0].shape[3])
    classes = sum(map(len, steps.alike.values()))
    table = values.new_empty(units, classes, slices, len(steps.widths))
    for (size, alike), part in zip(steps.alike.items(), parts, strict=True):
        ranks = steps.ranks[size].to(values.device)
        table[:, torch.tensor(alike, device=values.device)] = part[..., ranks]
    return table.mul_(steps.widths.to(values.device, values.dtype)).flatten(2)


def _sorted(values: Tensor) -> Tensor:
    """Ascending along the last dim; on the CPU in place."""
    if values.device.type != "cpu":
        return values.sort(-1).values
    values.numpy().sort(axis=-1)  # many short rows: several times faster than torch
    return values

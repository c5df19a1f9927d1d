"""Slow, plain distances between samples: quantile functions, integrated step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import combinations, pairwise

Point = Sequence[float]


def quantile(sample: Sequence[float], at: Fraction) -> float:
    """The value at this share of the sample, in ascending order; constant between its steps."""
    rank = min(int(at * len(sample)), len(sample) - 1)
    return sorted(sample)[rank]


def wasserstein(left: Sequence[float], right: Sequence[float]) -> float:
    """W1: the area between the quantile functions, exact for samples of any sizes."""
    ends = {Fraction(i, n) for n in (len(left), len(right)) for i in range(n + 1)}
    area = 0.0
    for start, end in pairwise(sorted(ends)):
        middle = (start + end) / 2
        area += float(end - start) * abs(quantile(left, middle) - quantile(right, middle))
    return area


def by_sorting(left: Sequence[float], right: Sequence[float]) -> float:
    """The same for samples of one size."""
    pairs = zip(sorted(left), sorted(right), strict=True)
    return sum(abs(a - b) for a, b in pairs) / len(left)


def sliced(left: Sequence[Point], right: Sequence[Point], along: Sequence[Point]) -> float:
    """The mean over directions of the distance of projections."""

    def shadow(points: Sequence[Point], direction: Point) -> list[float]:
        return [sum(c * d for c, d in zip(p, direction, strict=True)) for p in points]

    total = sum(wasserstein(shadow(left, d), shadow(right, d)) for d in along)
    return total / len(along)


def utilization(by_class: Mapping[int, Sequence[Point]], along: Sequence[Point] | None) -> float:
    """The largest distance of two classes that have two samples or more; `along` None: of numbers."""
    enough = [points for points in by_class.values() if len(points) > 1]
    directions = [[1.0]] if along is None else along
    return max(sliced(a, b, directions) for a, b in combinations(enough, 2))

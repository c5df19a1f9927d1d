"""The slow, plain twin of the tolerance of difference: sets, built anew for every depth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Row = Sequence[float]


def removal_order(removal: Row) -> list[int]:
    """Units, the lowest first; of equal scores the lower index."""
    return sorted(range(len(removal)), key=lambda unit: (removal[unit], unit))


def protection_order(protect: Row) -> list[int]:
    """Units, the highest first; of equal scores the lower index."""
    return sorted(range(len(protect)), key=lambda unit: (-protect[unit], unit))


def difference(removal: Row, protect: Row, m: int) -> float:
    """ToD(m), as it is defined."""
    removed, protected = set(removal_order(removal)[:m]), set(protection_order(protect)[:m])
    return len(removed & protected) / max(m, 1)


def allowed(size: int, floor: int | float = 1, round_to: int = 1) -> list[int]:
    """How many units may leave, from 1."""
    least = min(floor, size) if isinstance(floor, int) else floor * size - 1e-9
    return [
        m
        for m in range(1, int(0.99 * size) + 1)
        if size - m >= least and (size - m) % round_to == 0
    ]


def depth(removal: Row, protect: Row, alpha: float, may: Iterable[int]) -> int:
    """m*(alpha): downwards, and the first that holds wins."""
    for m in sorted(may, reverse=True):
        if difference(removal, protect, m) <= alpha:
            return m
    return 0


def kept(removal: Row, protect: Row, alpha: float, may: Iterable[int]) -> list[int]:
    """The units of one layer that stay, by index."""
    return sorted(removal_order(removal)[depth(removal, protect, alpha, may) :])


def kept_by_rank_sum(
    removal: Sequence[Row], protect: Sequence[Row], alpha: float, may: Sequence[int]
) -> list[int]:
    """As many as the layer that keeps most; those of the highest sums of places stay."""
    pairs = list(zip(removal, protect, strict=True))
    most = max(len(kept(*pair, alpha, may)) for pair in pairs)
    sums = [
        sum(removal_order(row).index(unit) for row in removal) for unit in range(len(removal[0]))
    ]
    return sorted(removal_order(sums)[len(sums) - most :])


def kept_by_index(
    removal: Sequence[Row], protect: Sequence[Row], alpha: float, may: Sequence[int]
) -> list[int]:
    """As many as the layer that keeps most; the first of the common units, or of all."""
    sets = [set(kept(*pair, alpha, may)) for pair in zip(removal, protect, strict=True)]
    most = max(map(len, sets))
    common, any_of = set.intersection(*sets), set.union(*sets)
    return sorted(common if len(common) >= most else any_of)[:most]

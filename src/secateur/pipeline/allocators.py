"""Allocators by name: `ranked`, `uniform`, `knapsack`, `tolerance`."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from secateur.allocate import (
    Allocator,
    ByIndex,
    Coupled,
    Knapsack,
    Ranked,
    RankSum,
    Tolerance,
    Uniform,
)
from secateur.lookup import check_options, literal, pick, split_options

COUPLED: dict[str, Callable[[], Coupled]] = {"ranksum": RankSum, "byindex": ByIndex}


def tolerance(
    by: str,
    floor: int | float,
    round_to: int,
    protect: str = "reconstruction",
    alpha: float | None = None,
    coupled: str = "ranksum",
) -> Tolerance:
    """Every group loses what two signals agree may leave: `tolerance?protect=taylor&alpha=0.05`.

    Source: Lin et al., Leveraging Tolerance of Difference: FAIR-Pruner, arXiv 2508.02291.

    Args:
        by: the saliency whose lowest scores leave.
        protect: the saliency whose highest scores are to stay; it must be scored as well.
        alpha: from 0 to 1; None where budgets say how much leaves.
        coupled: which units leave a group of several layers: "ranksum" or "byindex".

    Raises:
        UnknownNameError: there is no such rule for coupled layers.
        OptionError: an option that makes no sense.
    """
    rule = pick(str(coupled), COUPLED, "rule for coupled layers")()
    return Tolerance(by, str(protect), alpha, floor, round_to, rule)


# what builds an allocator that goes by one saliency, from its name, a floor and a width
ALLOCATORS: dict[str, Callable[..., Allocator]] = {
    "ranked": Ranked,
    "knapsack": Knapsack,
    "uniform": Uniform,
    "tolerance": tolerance,
}

_GIVEN = {"by", "floor", "round_to"}  # by options of their own


def find_allocator(
    chosen: str | Allocator, by: str, floor: int | float, round_to: int
) -> Allocator:
    """An allocator by its name with options ("tolerance?alpha=0.05"), or as it is.

    Raises:
        UnknownNameError: no allocator has this name.
        OptionError: it has no such option, or a floor or rounding that makes no sense.
    """
    if not isinstance(chosen, str):
        return chosen
    name, texts = split_options(chosen)
    make = pick(name, ALLOCATORS, "allocator")
    check_options(texts, set(inspect.signature(make).parameters) - _GIVEN, where=chosen)
    options = {option: literal(text) for option, text in texts.items()}
    found: Allocator = make(by=by, floor=floor, round_to=round_to, **options)
    return found

"""Repairs without labels by name: what can follow `--repair`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import nn

from secateur.errors import OptionError
from secateur.lookup import pick
from secateur.recover import Repaired, fold_means, least_squares
from secateur.types.group import Groups
from secateur.types.plan import Plan

Repair = Callable[[nn.Module, nn.Module, Plan, Iterable[Any]], Repaired]
"""(small, model, plan, data) → what was repaired, in place on `small`."""

REPAIRS: dict[str, Repair] = {"fold_means": fold_means, "least_squares": least_squares}

SAMPLES = 512
"""More add little: a repair measures means and correlations, not classes."""


def find_repairs(names: str | Sequence[str]) -> tuple[str, ...]:
    """The names, checked; they are done in this order. "none" alone is none.

    Raises:
        UnknownNameError: there is no such repair.
        OptionError: one is named twice.
    """
    several = (names,) if isinstance(names, str) else tuple(names)
    if several == ("none",):
        return ()
    for name in several:
        pick(name, REPAIRS, "repair")
    if len(set(several)) < len(several):
        raise OptionError(f"{', '.join(several)}: one is named twice", where="repair")
    if several == ("least_squares", "fold_means"):
        raise OptionError(
            "fold_means adds what is missing, and after least_squares nothing is",
            where="repair",
            hint="fold_means first, or least_squares alone",
        )
    return several


def check_repairable(every: Groups) -> None:
    """Before anything is scored: will there be removed units, whose readers can be repaired?

    Raises:
        OptionError: units of this kind are only masked.
    """
    if not any(group.removable for group in every):
        raise OptionError(
            "layers are repaired that read removed units, and here units are only masked",
            where="repair",
            hint="granularity channels, or --repair none",
        )

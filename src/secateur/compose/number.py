"""Numbers at the door: anything real, NumPy's included, becomes a float."""

from __future__ import annotations

import math
import numbers
from typing import TypeGuard

from secateur.errors import OptionError


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a real number of any library."""
    return isinstance(value, numbers.Real)


def weight_of(value: object) -> float:
    """A weight as a float.

    Raises:
        OptionError: no number, or not finite.
    """
    try:
        weight = float(value) if is_number(value) else math.nan
    except OverflowError:
        weight = math.inf
    if not math.isfinite(weight):
        raise OptionError(
            f"{value!r} is no weight", where="Blend", hint="a weight is a finite number, as 0.3"
        )
    return weight

"""What was drawn."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """One draw.

    Attributes:
        value: logits and noise, (rows, n).
        places: where the k highest of each row are in the flat tensor, from the highest down: int64
            (rows, k).
        highest: their values, (rows, k).
    """

    value: Tensor
    places: Tensor
    highest: Tensor

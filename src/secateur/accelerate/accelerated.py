"""What was measured of each Linear layer, and decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from torch import nn


@dataclass(frozen=True, slots=True)
class Timed:
    """One Linear layer.

    Attributes:
        name: path of the module.
        zeros: share of its weights, 0 to 1.
        way: "csr" or "2:4", the form that was tried; "" where none was.
        dense_s, sparse_s: median seconds of one call; None where it was not timed.
        chosen: whether it runs sparse now.
        why: not timed, if it was not.
    """

    name: str
    zeros: float
    way: str = ""
    dense_s: float | None = None
    sparse_s: float | None = None
    chosen: bool = False
    why: str = ""

    def __str__(self) -> str:
        line = f"{self.name}: {self.zeros:.1%} zeros"
        if self.dense_s is None or self.sparse_s is None:
            return f"{line}, dense: {self.why}"
        times = f"dense {1e6 * self.dense_s:,.1f} µs, {self.way} {1e6 * self.sparse_s:,.1f} µs"
        return f"{line}, {times}: {self.way if self.chosen else 'dense'}"


@dataclass(frozen=True, slots=True, eq=False)
class Accelerated:
    """A network whose Linear layers are sparse where that is faster.

    Attributes:
        model: a copy, in eval mode, for inference.
        layers: every Linear layer, in the order of the network's modules.
        max_abs_diff: between both networks' outputs on the inputs.
    """

    model: nn.Module
    layers: tuple[Timed, ...]
    max_abs_diff: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; times in seconds."""
        rows = [{name: getattr(layer, name) for name in Timed.__slots__} for layer in self.layers]
        return {"layers": rows, "max_abs_diff": self.max_abs_diff}

    def __str__(self) -> str:
        chosen = sum(layer.chosen for layer in self.layers)
        head = (
            f"{chosen} of {len(self.layers)} Linear layers run sparse;"
            f" outputs differ by {self.max_abs_diff:.3g} at most"
        )
        return "\n".join([head, *(f"    {layer}" for layer in self.layers)])


def faster(dense_s: Sequence[float], sparse_s: Sequence[float]) -> bool:
    """Whether the sparse way wins: by 5 % in the median of the ratios, repeat by repeat."""
    return median(s / d for d, s in zip(dense_s, sparse_s, strict=True)) < _MARGIN


_MARGIN = 0.95  # what is no faster than this is not worth a second form of the weights

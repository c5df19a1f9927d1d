"""What is kept of relevance: two vectors a weight."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from secateur.saliency.lrp.layer import Convolution, Linear
from secateur.saliency.lrp.names import Part


@dataclass(frozen=True, slots=True, eq=False)
class Effects:
    """The relevance around one weight tensor, summed over the samples of a batch.

    The relevance of a single weight is `rows + columns`, broadcast: what it contributes to, plus
    what it multiplies.
    """

    rows: Tensor  # of the outputs, float64, (outputs, 1, ...): it broadcasts to the weight's shape
    columns: Tensor  # of the inputs, (1, inputs, ...kernel); (outputs, ...) where there are groups
    positions: float  # how often each weight is used for one sample


class Tally:
    """Sums by parameter while the backward pass runs."""

    def __init__(self, signed: bool) -> None:
        self._signed = signed
        self._rows: dict[str, Any] = {}
        self._columns: dict[str, Any] = {}
        self._uses: dict[str, int] = {}

    def note(self, layer: Linear | Convolution, part: Part, of_x: Tensor, of_y: Tensor) -> None:
        """Add the relevances around one layer; the tensors are ours to write on."""
        if not self._signed:
            of_x, of_y = of_x.abs_(), of_y.abs_()
        columns, rows = layer.sums(of_x, of_y)
        for sums, effect in ((self._rows, rows), (self._columns, columns)):
            sums[part.name] = sums.get(part.name, 0.0) + part.widened(effect.double())
        self._uses[part.name] = self._uses.get(part.name, 0) + layer.positions(of_y)

    def effects(self, parts: Iterable[Part], samples: int) -> dict[str, Effects]:
        """What was noted, and zero for layers that relevance did not reach."""
        found: dict[str, Effects] = {}
        for part in parts:
            nothing = torch.zeros((1,) * len(part.shape), dtype=torch.float64)
            found[part.name] = Effects(
                self._rows.get(part.name, nothing),
                self._columns.get(part.name, nothing),
                self._uses.get(part.name, 0) / samples,
            )
        return found

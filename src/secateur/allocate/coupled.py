"""Which units leave a group that several layers write, each with an order of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Coupled(Protocol):
    """A rule that makes one choice out of those of several layers.

    The group keeps as many units as the layer that keeps the most.
    """

    def kept(self, places: Tensor, depths: Tensor) -> Tensor:
        """The mask: bool (n,), True stays; depths.min() units leave.

        Args:
            places: int64 (layers, n): where each unit stands in a layer's order of removal.
            depths: int64 (layers,): how many units each layer by itself would lose.
        """
        ...


@dataclass(frozen=True, slots=True)
class RankSum:
    """The units that all layers together place lowest leave first.

    Places in the layers' orders are added; of equal sums the lower index leaves first. What leaves
    at some alpha has left at every larger one.
    """

    def kept(self, places: Tensor, depths: Tensor) -> Tensor:
        """The mask, as `Coupled` says."""
        left = places.sum(0).argsort(stable=True)[: int(depths.min())]
        return torch.ones(places.shape[1], dtype=torch.bool).index_fill_(0, left, False)


@dataclass(frozen=True, slots=True)
class ByIndex:
    """As the authors' released code does it: by index, not by score.

    Of the units that all layers keep the first stay, if these are enough; else the first of those
    that any layer keeps. They are enough only where all layers keep the same. What leaves at some
    alpha may stay at a larger one.
    """

    def kept(self, places: Tensor, depths: Tensor) -> Tensor:
        """The mask, as `Coupled` says."""
        by_layer = places >= depths[:, None]
        most = int(by_layer.sum(1).max())
        common = by_layer.all(0)
        enough = common if int(common.sum()) >= most else by_layer.any(0)
        return enough & (enough.cumsum(0) <= most)

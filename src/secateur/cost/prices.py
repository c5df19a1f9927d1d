"""What a network's layers take together under masks, from a table of measured layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from secateur.cost.layers import Placed
from secateur.cost.surface import Surface
from secateur.types.group import Groups
from secateur.types.kept import kept


@dataclass(frozen=True, slots=True, eq=False)
class Prices:
    """The layers of one network with their times by width.

    The sum is not the network's latency, of which joins, activations and copies are a part, and
    neighbours share caches and layouts: it says which of two plans is faster, and by how much about.

    Attributes:
        layers: every call of a layer, with its measured times.
    """

    layers: tuple[tuple[Placed, Surface], ...]

    def seconds(self, groups: Groups, masks: Mapping[str, Tensor]) -> float:
        """Of all layers together, with the widths that the masks leave.

        Args:
            masks: group name → bool (n,); a group without a mask is kept whole.
        """
        left = kept(groups, masks)
        total = 0.0
        for one, surface in self.layers:
            by_dims = left.get(one.weight, {})
            outs = int(by_dims[0,].sum()) if (0,) in by_dims else one.outs
            ins = int(by_dims[1,].sum()) if (1,) in by_dims else one.ins
            total += surface.seconds(outs, ins)
        return total

"""Latency as polynomials of widths, so that a solver can choose them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from secateur.allocate.forms import Product, length_of, members_of
from secateur.allocate.levels import Levels
from secateur.cost.prices import Prices
from secateur.types.group import Groups


def priced(
    groups: Groups, prices: Prices, levels: Mapping[str, Levels], fixed: Mapping[str, Tensor]
) -> list[Product]:
    """Seconds of all layers: a + b outs + c ins + d outs ins of each, nearest to what was measured.

    The table itself has steps and bends, which `Prices.seconds` knows and this does not: what the
    solver chooses by it is counted again by them.
    """
    of = members_of(groups)
    found = []
    for one, surface in prices.layers:
        dense = groups.shapes[one.weight]
        outs, ins = (
            length_of(
                dense[d],
                [(name, m.unit_of) for name, m in of.get(one.weight, ()) if m.dims == (d,)],
                levels,
                fixed,
            )
            for d in (0, 1)
        )
        constant, by_outs, by_ins, by_both = map(float, surface.plane())
        found += [
            Product(constant, ()),
            Product(by_outs, (outs,)),
            Product(by_ins, (ins,)),
            Product(by_both, (outs, ins)),
        ]
    return found

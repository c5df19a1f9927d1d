"""What a runtime lets pruning realise, by its table of layers: all plans within a latency counted out."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch

import secateur as sec
from secateur.cost import Prices, macs
from secateur.cost.surface import axis

LISTED = 4**13
"""So many plans are counted out in a few seconds."""


def most_macs(groups: sec.Groups, prices: Prices, budget: float) -> dict[str, Any] | None:
    """Of all plans over the table's widths whose layers take at most the budget, the one of most MACs.

    And the largest that any of these plans realises: MACs kept over the time of its layers that is
    kept, which is what the table says of the network's latency. What a layer takes and multiplies
    follows from the widths of the groups that it is part of, so all plans are counted out at once; what
    the table does not have counts for neither. None: there are more than `LISTED`, or none keeps the
    budget.

    Args:
        budget: of the time that all layers take, the fraction that may be kept.
    """
    axes = [axis(group.size) for group in groups]
    sizes = [len(widths) for widths in axes]
    if math.prod(sizes) > LISTED:
        return None
    taken, kept = (np.zeros(sizes, dtype=np.float32) for _ in range(2))
    seen: set[str] = set()
    for one in prices.layers:
        weight = one[0].weight
        of = [i for i, g in enumerate(groups) if weight in {m.name for m in g.members}]
        contractions = [c for c in groups.contractions if c.weight == weight and weight not in seen]
        layer = replace(groups, contractions=tuple(contractions))  # MACs are of all its calls
        seen.add(weight)
        values = []
        for widths in itertools.product(*(axes[i] for i in of)):
            masks = {
                group.name: torch.arange(group.size) < width
                for group, width in zip([[*groups][i] for i in of], widths, strict=True)
            }
            values.append((Prices((one,)).seconds(groups, masks), macs(layer, masks)))
        shape = [size if i in of else 1 for i, size in enumerate(sizes)]
        for total, each in zip((taken, kept), zip(*values, strict=True), strict=True):
            total += np.asarray(each, dtype=np.float32).reshape(shape)
    kept, taken = kept / kept.flat[-1], taken / taken.flat[-1]  # the last plan is the dense network
    within = taken <= budget
    if not within.any():
        return None
    best = np.unravel_index(int(np.where(within, kept, 0.0).argmax()), kept.shape)
    return {
        "plans": math.prod(sizes),
        "macs_kept": float(kept[best]),
        "layers_kept": float(taken[best]),
        "realised_at_most": float((kept / taken)[within].max()),
        "widths": [axes[i][at] for i, at in enumerate(best)],
    }

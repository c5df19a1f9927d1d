"""Wanda: a weight matters as much as what it multiplies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from secateur.errors import ScoreError
from secateur.saliency.filters import filters
from secateur.saliency.input_norms import InputNorms
from secateur.saliency.need import Need
from secateur.saliency.protocol import Collector, Saliency, Seen, State
from secateur.types.group import Group
from secateur.types.kept import per_unit

_NORMS = InputNorms()


@dataclass(frozen=True, slots=True)
class Wanda(Saliency):
    """Magnitude times the norm of the input.

        s = sum_w |w| * ||x||_2   over the weights w of the unit's filters

    x is what w multiplies, over all samples and positions; ||x|| is its root of the sum of squares,
    divided by the root of the number of samples, so that more data does not mean higher scores.
    Made for single weights, where the sum has one term. The paper lets the weights of one output
    compete with each other only.

    Source: Sun et al., A Simple and Effective Pruning Approach for Large Language Models, ICLR 2024
    (arXiv 2306.11695).

    Raises:
        ScoreError: a weight belongs to no Linear layer or convolution that was run.
    """

    needs: ClassVar[frozenset[Need | Collector]] = frozenset({Need.WEIGHTS, _NORMS})

    def start(self, group: Group) -> State:
        """For each filter tensor the squares of |w| * ||x||, and how often it was used."""
        state = {"samples": torch.zeros((), dtype=torch.float64)}
        for number, member in enumerate(filters(group)):
            state[f"squares {number}"] = torch.zeros(member.shape, dtype=torch.float64)
            state[f"uses {number}"] = torch.zeros((), dtype=torch.float64)
        return state

    def observe(self, state: State, seen: Seen) -> State:
        """Add one batch."""
        found: Mapping[str, Tensor] = seen.collected(_NORMS)
        state = state | {"samples": state["samples"] + seen.samples}
        for number, member in enumerate(filters(seen.group)):
            if member.name in found:
                squares = seen.weights(member).double().square() * found[member.name]
                state[f"squares {number}"] = state[f"squares {number}"] + squares
                state[f"uses {number}"] = state[f"uses {number}"] + 1.0
        return state

    def finish(self, state: State, group: Group) -> Tensor:
        """The root, weight by weight, and then the sum."""
        total = state["samples"].new_zeros(group.size)
        for number, member in enumerate(filters(group)):
            if not state[f"uses {number}"]:
                raise ScoreError(
                    "is no weight of a Linear layer or convolution that was run",
                    where=member.name,
                    hint=f"only these have inputs to speak of; set keep=[{group.name!r}]",
                )
            sizes = (state[f"squares {number}"] / state["samples"]).sqrt()
            total += per_unit(sizes, member, group.size)
        return total

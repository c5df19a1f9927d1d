"""Domino: a channel is worth what all the channels that leave with it are worth together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.saliency import apart
from secateur.saliency.consumed import Consumed
from secateur.saliency.covered import Covered, elements, weights
from secateur.saliency.need import Need
from secateur.saliency.portions import Portion, consumers, producers
from secateur.saliency.protocol import Collector, Saliency, Seen, State
from secateur.types.group import Group


@dataclass(frozen=True, slots=True)
class Domino(Saliency):
    """The sum of a saliency over all layers that are coupled in a unit.

        Domino-o      s(c) = sum_{c' in Src(c)} s_out(c')
        Domino-io     s(c) = sum_{c' in Src(c)} s_out(c') + sum_{d in Snk(c)} s_in(d)
        ...-avg       divided by the number of weights, or of activation elements, of all terms

    Src(c) are the layers that write the unit, Snk(c) the convolutions that read it (Linear layers
    do not enter). s_out is the base saliency of one layer's filters or activation, s_in that of the
    slices of weights that read the unit, or of the layer's input. Weights count without biases,
    elements for one sample. A base that is a mean over elements itself (it says so by `averages`)
    is multiplied by their number before it is averaged: the average is that over all terms.

    On a chain of layers Domino-o is the base saliency. With `inputs`, a base that looks at
    activations takes a second pass over every batch, for the inputs.

    Source: Persand et al., Domino Saliency Metrics: Improving Existing Channel Saliency Metrics with
    Structural Information, arXiv 2205.02131.

    Args:
        base: any single saliency; compositions are put together outside.
        inputs: count what reads the unit too ("-io").
        average: divide by what the terms cover ("-avg").
    """

    base: Saliency
    inputs: bool = False
    average: bool = False

    def __post_init__(self) -> None:
        apart.check_leaf(self.base, "Domino")

    @property
    def needs(self) -> frozenset[Need | Collector]:
        """What the base needs, and a pass of its own where it looks at inputs."""
        apart_from_it = {Consumed(self._term)} if self.inputs and self._at_sites else set()
        return self.base.needs | apart_from_it

    def start(self, group: Group) -> State:
        """A state of the base for each layer."""
        return apart.start(self._term, (*producers(group), *self._readers(group)))

    def observe(self, state: State, seen: Seen) -> State:
        """Let the base look at each layer."""
        outs, ins = producers(seen.group), self._readers(seen.group)
        if seen.shown is not None:
            return apart.observe(self._term, outs, state, seen)
        if not self._at_sites:
            return apart.observe(self._term, (*outs, *ins), state, seen)
        if self.base.at_ends:
            state = apart.observe(self._term, outs, state, seen)
        if ins:
            found = seen.collected(Consumed(self._term))
            for portion in ins:
                state = apart.add_to(portion, state, found[portion.group.name])
        return state

    def finish(self, state: State, group: Group) -> Tensor:
        """The sum or mean of all terms."""
        portions = (*producers(group), *self._readers(group))
        values = apart.finish(self._term, portions, state)
        if not self.average:
            return _sum(portions, values, group)
        amounts = [self._amount(portion, state).to(values[0].device) for portion in portions]
        if self.base.averages:
            values = [value * amount for value, amount in zip(values, amounts, strict=True)]
        return _sum(portions, values, group) / _sum(portions, amounts, group)

    @property
    def _at_sites(self) -> bool:
        return self.base.site_need is not None

    @property
    def _term(self) -> Saliency:
        """What is evaluated on each layer."""
        return Covered(self.base) if self.average and self._at_sites else self.base

    def _readers(self, group: Group) -> tuple[Portion, ...]:
        return consumers(group) if self.inputs else ()

    def _amount(self, portion: Portion, state: State) -> Tensor:
        """Elements or weights of each unit, (m,)."""
        if self._at_sites:
            return elements(apart.state_of(portion, state))
        return weights(portion.group)


def _sum(portions: Sequence[Portion], values: Sequence[Tensor], group: Group) -> Tensor:
    """Over all layers, (n,)."""
    parts = [p.spread(value, group.size) for p, value in zip(portions, values, strict=True)]
    return torch.stack(parts).sum(0)

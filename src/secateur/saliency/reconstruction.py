"""Reconstruction score: what the loss would change by, were the unit gone; high protects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from secateur.saliency.need import Need
from secateur.saliency.protocol import Saliency, Seen, State
from secateur.saliency.sites import all_of_them, sites
from secateur.types.group import Group

_SAMPLES, _LAYER = "samples", "layer "


@dataclass(frozen=True, slots=True)
class Reconstruction(Saliency):
    """The first-order estimate of how much the mean loss changes when the unit is removed.

        R = | (1/N) sum_n sum_hw a * g |   over N samples and H * W positions

    a is the activation as the next layer reads it, after normalisation and activation function, g the
    derivative of one sample's loss for it. The sum is signed; the absolute value is taken once, at the
    very end. The network is in eval mode. Without normalisation between a layer and its activation
    function (a ReLU) this is the authors' form, | sum w * dL/dw + b * dL/db |, number by number; with
    one, theirs is noise in train mode, since a filter's scale then changes nothing.

    Of an expert in a mixture, a is what it returns, where it is a module of its own, else what the
    router says of it.

    A unit that several layers write leaves all of them: their signed sums are added; each layer's own
    is in `Scores.layers`. Of a recurrent layer's unit only what it sends on counts, not what the
    units tell each other from step to step.

    Source: Lin et al., FAIR-Pruner, arXiv 2508.02291.
    """

    # weights are not looked at: whoever needs them is also observed once at the end of a batch
    needs: ClassVar[frozenset[Need]] = frozenset({Need.WORK_GRADIENTS, Need.WEIGHTS})

    def start(self, group: Group) -> State:
        """Signed sums per unit, for each layer that writes units, and the number of samples."""
        writers = [site.writer for site in sites(group, Need.WORK_GRADIENTS)]
        return {
            _SAMPLES: torch.zeros((), dtype=torch.float64),
            **{f"{_LAYER}{w}": torch.zeros(group.size, dtype=torch.float64) for w in writers},
        }

    def observe(self, state: State, seen: Seen) -> State:
        """Add one batch at one place, or at its end the number of its samples."""
        if seen.shown is None:
            return {**state, _SAMPLES: state[_SAMPLES] + seen.samples}
        layer = f"{_LAYER}{seen.shown.activation.writer}"
        return {**state, layer: state[layer] + seen.shown.change}

    def finish(self, state: State, group: Group) -> Tensor:
        """The absolute value of what all layers add up to, per sample."""
        return torch.stack([*_layers(state).values()]).sum(0).abs()

    def by_layer(self, state: State, group: Group) -> Mapping[str, Tensor]:
        """Of each layer alone; none where a layer writes only some of the units."""
        found = _layers(state)
        if len(found) < 2 or not all_of_them(group, sites(group, Need.WORK_GRADIENTS)):
            return {}
        return {name: change.abs() for name, change in found.items()}


def _layers(state: State) -> dict[str, Tensor]:
    """The signed change per sample by the name of the weight, in the order of the names."""
    return {
        key.removeprefix(_LAYER): state[key] / state[_SAMPLES]
        for key in sorted(state)
        if key.startswith(_LAYER)
    }

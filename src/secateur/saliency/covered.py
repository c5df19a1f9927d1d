"""How much of the network a score stands for: activation elements or weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.saliency.filters import filters
from secateur.saliency.need import Need
from secateur.saliency.protocol import Collector, Saliency, Seen, State
from secateur.types.group import Group
from secateur.types.kept import per_unit

_ELEMENTS, _SAMPLES = "covered: elements", "covered: samples"


@dataclass(frozen=True, slots=True)
class Covered(Saliency):
    """The saliency `base`, which also notes how many activation elements it was shown."""

    base: Saliency

    @property
    def needs(self) -> frozenset[Need | Collector]:
        """What the base needs."""
        return self.base.needs

    def start(self, group: Group) -> State:
        """The base's state, and elements and samples per unit."""
        nothing = torch.zeros(group.size, dtype=torch.float64)
        return self.base.start(group) | {_ELEMENTS: nothing, _SAMPLES: nothing.clone()}

    def observe(self, state: State, seen: Seen) -> State:
        """As the base; at a site the elements are counted."""
        own = {key: state[key] for key in (_ELEMENTS, _SAMPLES)}
        if seen.shown is not None:
            own[_ELEMENTS] = own[_ELEMENTS] + seen.shown.count
            own[_SAMPLES] = own[_SAMPLES] + seen.shown.samples
        return self.base.observe(_without(state), seen) | own

    def finish(self, state: State, group: Group) -> Tensor:
        """As the base."""
        return self.base.finish(_without(state), group)


def elements(state: State) -> Tensor:
    """Activation elements of one sample, per unit, in a state of `Covered`."""
    return state[_ELEMENTS] / state[_SAMPLES]


def weights(group: Group) -> Tensor:
    """Weights of each unit's filters, float64 (n,)."""
    total = torch.zeros(group.size, dtype=torch.float64)
    for member in filters(group):
        one = torch.ones((), dtype=torch.float64).expand(member.shape)
        total += per_unit(one, member, group.size)
    return total


def _without(state: State) -> State:
    return {key: value for key, value in state.items() if key not in (_ELEMENTS, _SAMPLES)}

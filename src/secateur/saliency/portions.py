"""Portions: what one layer has to do with a group, as a group of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from secateur.saliency.sites import shown_alone
from secateur.types.group import Activation, Group, Member, Place, Role


@dataclass(frozen=True, slots=True, eq=False)
class Portion:
    """One layer's share in a group.

    The layer's members write the units of `group`, which are those that the layer has to do with,
    numbered anew: a layer behind a concatenation writes a part of them only.
    """

    group: Group
    units: Tensor  # int64 (m,): the number of each in the whole group, ascending

    @property
    def writers(self) -> frozenset[str]:
        """The names of the layer's own tensors."""
        return frozenset(m.name for m in self.group.members if m.role is Role.WRITES)

    def spread(self, values: Tensor, size: int, fill: float = 0.0) -> Tensor:
        """(m,) as (size,), with `fill` for the units that are not here."""
        whole = values.new_full((size,), fill)
        whole[self.units.to(values.device)] = values
        return whole

    def renumbered(self, activation: Activation) -> Activation:
        """An activation of the whole group, as one of this portion."""
        return replace(activation, unit_of=_renumber(activation.unit_of, self.units))


def producers(group: Group) -> tuple[Portion, ...]:
    """A portion for each layer that writes units: its weight and bias, and the norm behind it.

    A norm belongs to the layer if it reads the work of that layer alone. Where nothing writes the
    units, or a gate speaks for them (an expert's layers are inside of it, and coupled with none), the
    group itself is the one portion.
    """
    if group.gate is not None or not any(m.role is Role.WRITES for m in group.members):
        return (Portion(group, torch.arange(group.size)),)
    if group not in _PRODUCERS:
        _PRODUCERS[group] = _producers(group)
    return _PRODUCERS[group]


# asked for at every site of every batch, and the same each time
_PRODUCERS: WeakKeyDictionary[Group, tuple[Portion, ...]] = WeakKeyDictionary()


def _producers(group: Group) -> tuple[Portion, ...]:
    made = []
    for layer, members in _by_layer(m for m in group.members if m.role is Role.WRITES):
        names = {member.name for member in members}
        seen = [a for a in shown_alone(group) if a.writer in names]
        behind = {a.module for a in seen if a.place is Place.OUTPUT}
        norms = [m for m in group.members if m.role is Role.SCALES and _layer(m) in behind]
        made.append(_portion(group, layer, [*members, *norms], seen))
    return tuple(made)


def consumers(group: Group) -> tuple[Portion, ...]:
    """A portion for each convolution that reads units: the slices that read them.

    They are called writers here, so that a saliency made for writers looks at them. What is seen of
    them is the input of the layer. Linear layers are left out, as in the paper.
    """
    made = []
    reading = [m for m in group.members if m.role is Role.READS and len(m.shape) > 2]
    for layer, members in _by_layer(reading):
        writers = [replace(member, role=Role.WRITES) for member in members]
        given = [
            replace(a, writer=members[0].name)
            for a in group.activations
            if a.module == layer and a.place is Place.INPUT
        ]
        made.append(_portion(group, f"into {layer}", writers, given))
    return tuple(made)


def _portion(
    group: Group, label: str, members: Sequence[Member], activations: Iterable[Activation]
) -> Portion:
    writers = [member.unit_of for member in members if member.role is Role.WRITES]
    units = torch.cat(writers).unique()
    units = units[units >= 0]
    own = Group(
        f"{group.name} ({label})",
        group.kind,
        len(units),
        tuple(replace(m, unit_of=_renumber(m.unit_of, units)) for m in members),
        tuple(replace(a, unit_of=_renumber(a.unit_of, units)) for a in activations),
        removable=group.removable,
    )
    return Portion(own, units)


def _renumber(unit_of: Tensor, units: Tensor) -> Tensor:
    """Units by their place among `units`; -1 for others."""
    if not len(units):
        return torch.full_like(unit_of, -1)
    place = torch.searchsorted(units, unit_of).clamp(max=len(units) - 1)
    return torch.where(units[place] == unit_of, place, -1)


def _by_layer(members: Iterable[Member]) -> list[tuple[str, list[Member]]]:
    layers: dict[str, list[Member]] = {}
    for member in members:
        layers.setdefault(_layer(member), []).append(member)
    return list(layers.items())


def _layer(member: Member) -> str:
    """The path of the module that a tensor belongs to, parametrised or not."""
    module, parametrised, _ = member.name.partition(".parametrizations.")
    return module if parametrised else member.name.rpartition(".")[0]

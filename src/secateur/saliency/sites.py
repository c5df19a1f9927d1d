"""Sites: where the units of a group are seen while the network runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache

import torch

from secateur.errors import ScoreError
from secateur.saliency.need import Need
from secateur.types.group import Activation, Group, Place
from secateur.types.kept import written


def sites(group: Group, need: Need) -> tuple[Activation, ...]:
    """One activation for each weight that produces units of the group.

    Needs of a producer's own output take the first place where its work is seen, the others the last
    one before it is read or meets the work of another producer: after normalisation and activation
    function. Units behind a gate, as experts, are seen by what the gate says of each; what each of
    them returns is their work, and is seen where they are modules.

    Raises:
        ScoreError: units or a producer of them are seen nowhere.
    """
    if group.gate is not None:
        said = tuple(a for a in group.activations if a.module == group.gate)
        returned = tuple(a for a in group.activations if a.module != group.gate)
        return (need is Need.WORK_GRADIENTS and returned) or said
    chosen: dict[str, Activation] = {}
    seen = torch.zeros(group.size, dtype=torch.bool)
    shown = shown_alone(group)
    for activation in shown:
        before = chosen.get(activation.writer or "")
        if activation.writer is None or (before and need.first):
            continue
        if before is None or bool(
            (_units(activation, group.size) >= _units(before, group.size)).all()
        ):
            chosen[activation.writer] = activation
        seen |= _units(activation, group.size)
    hidden = [] if shown is not group.activations else _weights(group)
    hidden = [name for name in hidden if name not in chosen]
    if hidden or not bool(seen.all()):
        raise ScoreError(
            f"no module returns or is given the {group.kind}s alone that come from"
            f" {', '.join(hidden) or 'its members'}",
            where=group.name,
            hint="score it by weights or gradients, as with sec.Taylor()"
            if group.removable
            else f"a {group.kind} has no activation of its own; score it by sec.Taylor()",
        )
    return tuple(chosen.values())


def shown_alone(group: Group) -> tuple[Activation, ...]:
    """The group's activations, each with the weight whose work it is.

    The hidden units of a recurrent layer and the heads of an `nn.MultiheadAttention` are the work of
    several products at once, so no weight is their writer: the first one stands for all. Of what a
    recurrent layer returns, the sequence is looked at, which a stack of layers leaves at its top; not
    the last state, whose first dim counts layers.
    """
    weights = _weights(group)
    modules = {name.rpartition(".")[0] for name in weights}
    single = len(weights) < 2 and group.kind != "head"
    if single or len(modules) > 1 or any(a.writer for a in group.activations):
        return group.activations
    return tuple(
        replace(activation, writer=weights[0])
        for activation in group.activations
        if activation.place is Place.INPUT or not activation.position
    )


def all_of_them(group: Group, shown: Iterable[Activation]) -> bool:
    """Whether every unit of the group is seen in each of these activations."""
    return all(bool(_units(activation, group.size).all()) for activation in shown)


def _weights(group: Group) -> list[str]:
    """The weights that write the units; biases write where their weights do."""
    return [member.name for member in written(group) if len(member.shape) > 1]


@lru_cache(maxsize=512)
def _units(activation: Activation, size: int) -> torch.Tensor:
    """bool (n,): which units are seen; a part of them where the producer's work was split."""
    seen = torch.zeros(size, dtype=torch.bool)
    seen[activation.unit_of[activation.unit_of >= 0]] = True
    return seen

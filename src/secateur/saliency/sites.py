"""Sites: where the units of a group are seen while the network runs."""

from __future__ import annotations

import torch

from secateur.errors import ScoreError
from secateur.saliency.need import Need
from secateur.types.group import Activation, Group
from secateur.types.kept import written


def sites(group: Group, need: Need) -> tuple[Activation, ...]:
    """One activation for each weight that produces units of the group.

    Needs of a producer's own output take the first place where its work is seen, the others the last
    one before it is read or meets the work of another producer: after normalisation and activation
    function.

    Raises:
        ScoreError: units or a producer of them are seen nowhere.
    """
    chosen: dict[str, Activation] = {}
    seen = torch.zeros(group.size, dtype=torch.bool)
    for activation in group.activations:
        before = chosen.get(activation.writer or "")
        if activation.writer is None or (before and need.first):
            continue
        if before is None or bool((_units(group, activation) >= _units(group, before)).all()):
            chosen[activation.writer] = activation
        seen |= _units(group, activation)
    hidden = [m.name for m in written(group) if len(m.shape) > 1 and m.name not in chosen]
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


def _units(group: Group, activation: Activation) -> torch.Tensor:
    """bool (n,): which units are seen; a part of them where the producer's work was split."""
    seen = torch.zeros(group.size, dtype=torch.bool)
    seen[activation.unit_of[activation.unit_of >= 0]] = True
    return seen

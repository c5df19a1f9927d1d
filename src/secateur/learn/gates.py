"""Gates on a network: masks that are learned with its weights, in any training loop.

    gated = sec.gate(model, groups, keep=0.25)
    optimizer = torch.optim.Adam(gated.parameter_groups())
    ...                                   # train gated.model as any other network
    small = sec.shrink(gated.plain(), gated.plan())

Masks are parametrisations. A unit that is a channel or a head is masked where it is read, as feature
maps are in the paper: what is not drawn is still computed, so that its logit learns what it would be
worth, and neither normalisations nor skip paths are changed. Weights and kernels are masked where they
are.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from secateur.errors import OptionError, PlanError
from secateur.learn.entropy import row_entropy
from secateur.learn.gate import Gate, Masked
from secateur.learn.parametrised import Places, attach, holders, values
from secateur.learn.rows import Rows, Usual
from secateur.learn.sampler import Sampler
from secateur.learn.start import Normal, Start
from secateur.mask.copies import copy_with
from secateur.types.group import Group, Groups, Member, Role
from secateur.types.plan import Plan

Keep = float | Mapping[str, int] | None

_USUAL, _SAMPLER, _NORMAL = Usual(), Sampler(), Normal()


@dataclass(frozen=True, slots=True, eq=False)
class Gated:
    """A network with gates.

    Attributes:
        model: a copy of the network, with masks as parametrisations. Every call in train mode draws
            one mask for all that it does; in eval mode each row keeps its k highest logits.
        groups: of the network without gates.
        gates: group → its gate; groups that keep all have none.
        source: the network that was given; it is not trained.
        places: where the tensors of `model` are, by the names that they have in `source`.
    """

    model: nn.Module
    groups: Groups
    gates: Mapping[str, Gate]
    source: nn.Module
    places: Places

    def parameter_groups(self, **logits: Any) -> list[dict[str, Any]]:
        """For an optimiser: the weights, and the logits without weight decay.

        Args:
            logits: settings of the logits alone, as lr=0.01.
        """
        own = [gate.logits for gate in self.gates.values()]
        known = {id(parameter) for parameter in own}
        weights = [p for p in self.model.parameters() if p.requires_grad and id(p) not in known]
        return [{"params": weights}, {"params": own, "weight_decay": 0.0, **logits}]

    def set_temperature(self, temperature: float) -> None:
        """How soft the relaxed draws are from now on, in every gate."""
        if not 0.0 < temperature < float("inf"):
            raise OptionError(f"a temperature of {temperature}", where="set_temperature")
        for gate in self.gates.values():
            gate.temperature = temperature

    def entropy(self) -> Tensor:
        """Sum over all rows of H(softmax(logits)) in nats, (); differentiable."""
        return torch.stack([row_entropy(g.logits.float()).sum() for g in self.gates.values()]).sum()

    def plan(self) -> Plan:
        """What stays: the k highest logits of each row, and everything without a gate."""
        masks = {
            group.name: self.gates[group.name].mask()
            if group.name in self.gates
            else torch.ones(group.size, dtype=torch.bool)
            for group in self.groups
        }
        rows = {name: [*gate.logits.shape, gate.k] for name, gate in self.gates.items()}
        return Plan(self.groups, masks, {"allocator": "k of n", "rows, n and k": rows})

    def plain(self) -> nn.Module:
        """The network without gates, its weights as they are now, quantised where they are quantised."""
        now = values(self.places, Masked)
        return copy_with(self.source, lambda name, tensor: _like(tensor, now[name]))


def gate(
    model: nn.Module,
    groups: Groups,
    keep: Keep = None,
    *,
    rows: Rows = _USUAL,
    sampler: Sampler = _SAMPLER,
    start: Start = _NORMAL,
    quantizer: nn.Module | None = None,
    seed: int = 0,
) -> Gated:
    """A copy of the network whose units are drawn, k of every row, by logits that learn.

    Source: Dynamic Probabilistic Pruning, arXiv 2105.12686.

    Args:
        keep: the share of every row that stays, rounded to the nearest number of units and at least
            one; or how many units stay in each row, by group (groups that are not named keep all).
            None where the groups say by themselves: k of m.
        rows: which units form a row.
        sampler: how masks are drawn.
        start: the logits before the first step.
        quantizer: what the weights of every product go through before the mask; see `Quantizer`.
        seed: of the logits and of everything that is drawn.

    Raises:
        OptionError: k is less than one or more than n, rows do not fit, or a name is unknown.
        ModelError: a tensor has a parametrisation already, or cannot have one.
        PlanError: there is nothing to draw.
    """
    chosen = {group.name: k for group in groups if (k := _k(group, rows, keep)) is not None}
    unknown = sorted(set(keep) - {g.name for g in groups}) if isinstance(keep, Mapping) else []
    if unknown:
        raise OptionError("there is no such group", where=", ".join(unknown[:8]))
    if not chosen:
        raise PlanError("there is no unit to draw", hint="print(groups) says what was found")
    ours = copy.deepcopy(model)
    places = holders(ours)
    if quantizer is not None:
        for name in dict.fromkeys(c.weight for c in groups.contractions if c.weight):
            attach(places, name, lambda _: copy.deepcopy(quantizer))
    gates: dict[str, Gate] = {}
    for group in groups:
        if group.name not in chosen:
            continue
        laid = rows.of(group)
        logits = start.logits(group, laid, seed)
        made = Gate(group, laid, chosen[group.name], logits, sampler, seed)
        made.to(next(iter(model.parameters())).device)
        _hang(made, group, places)
        gates[group.name] = made
    ours.register_forward_pre_hook(_Redraw(tuple(gates.values())))
    return Gated(ours, groups, gates, model, places)


def _k(group: Group, rows: Rows, keep: Keep) -> int | None:
    """How many units of each row stay; None: all, without a gate."""
    if isinstance(keep, Mapping):
        return keep.get(group.name)
    if keep is None:
        if group.pattern is None:
            raise OptionError(
                "how many units stay?",
                where=group.name,
                hint="keep=0.5, or a number for each group",
            )
        return group.pattern[0]
    if not 0.0 < keep <= 1.0:
        raise OptionError(f"keep={keep} is no share of a row", where="keep", hint="keep=0.5")
    n = rows.of(group).shape[1]
    return max(1, int(keep * n + 0.5))


def _hang(gate: Gate, group: Group, places: Places) -> None:
    """Mask every tensor that reads the units; where none does, all that holds them."""
    owner, *others = _gated(group)
    attach(places, owner.name, lambda i: Masked(gate, owner, owns=i == 0))
    for member in others:
        attach(places, member.name, partial(_shared, gate, member))


def _shared(gate: Gate, member: Member, _place: int) -> Masked:
    return Masked(gate, member, owns=False)


def _gated(group: Group) -> tuple[Member, ...]:
    members = tuple(m for m in group.members if m.masked)
    readers = tuple(m for m in members if m.role is Role.READS)
    return readers or members


class _Redraw:
    """Before every call in train mode: one new mask for all that the call does."""

    def __init__(self, gates: tuple[Gate, ...]) -> None:
        self.gates = gates

    def __call__(self, module: nn.Module, _inputs: Any) -> None:
        if module.training:
            for gate in self.gates:
                gate.redraw()


def _like(tensor: Tensor, values: Tensor) -> Tensor:
    """The values as a parameter or a buffer, whichever the tensor is."""
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(values.clone(), requires_grad=tensor.requires_grad)
    return values.clone()

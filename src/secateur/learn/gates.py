"""Gates on a network: masks that are learned with its weights, in any training loop.

    gated = sec.gate(model, groups, keep=0.25)
    optimizer = torch.optim.Adam(gated.parameter_groups())
    ...                                   # train gated.model as any other network
    small = sec.shrink(gated.plain(), gated.plan())

Masks are parametrisations. A unit that is a channel or a head is masked where it is read, as feature
maps are in the paper, if an example shows that this is enough: what is not drawn is still computed, so
that its logit learns what it would be worth. Weights and kernels are masked where they are.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from secateur.errors import ModelError, OptionError, PlanError
from secateur.learn.codes import Codes, read
from secateur.learn.entropy import total_entropy
from secateur.learn.gate import Gate, Masked, eagerly
from secateur.learn.parametrised import Places, attach, holders, like, values
from secateur.learn.quantize import Quantizer
from secateur.learn.quantized import attach_quantizers
from secateur.learn.rows import Rows, Usual, laid_out
from secateur.learn.sampler import Sampler
from secateur.learn.start import Normal, Start
from secateur.learn.where import TOLERANCE, where_masked
from secateur.mask.check import check_fits
from secateur.mask.copies import copy_with
from secateur.mask.masked import masked
from secateur.types.group import Group, Groups, Member
from secateur.types.outputs import distance, largest, run_in_double
from secateur.types.plan import Plan
from secateur.types.untouched import untouched

Keep = float | Mapping[str, int] | None

_OUTPUTS_FIRST = (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd, nn.RNNBase, nn.RNNCellBase,
                  nn.MultiheadAttention)  # fmt: skip
_COLDEST = 1e-6  # logits over it are still finite
_USUAL, _SAMPLER, _NORMAL = Usual(), Sampler(), Normal()
_OPTIONS = {  # by the method that they must have
    "rows": ("of", "a value of secateur.learn, as PerKernel()"),
    "sampler": ("choose", "sec.Sampler(noise=0.1)"),
    "start": ("logits", 'a value of secateur.learn: Normal(1.0), FromScores(scores["magnitude"])'),
    "quantizer": ("build", "sec.Quantizer(8)"),
}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
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

    def __repr__(self) -> str:
        lines = [f"gates on a {type(self.source).__name__}"]
        for name, each in self.gates.items():
            rows, n = each.logits.shape
            lines.append(f"    {name}: {each.k} of {n} in {rows} row" + "s" * (rows > 1))
        return "\n".join(lines)

    def parameter_groups(self, **logits: Any) -> list[dict[str, Any]]:
        """For an optimiser: the weights, and the logits without weight decay.

        Args:
            logits: settings of the logits alone, as lr=0.01.
        """
        own = [gate.logits for gate in self.gates.values()]
        known = {id(parameter) for parameter in own}
        weights = [p for p in self.model.parameters() if p.requires_grad and id(p) not in known]
        return [{"params": weights}, {"params": own, "weight_decay": 0.0, **logits}]

    def redraw(self) -> None:
        """From now on other masks. Every call of `model` does so; calls of its parts do not."""
        for gate in self.gates.values():
            gate.redraw()

    def set_temperature(self, temperature: float) -> None:
        """How soft the relaxed draws are from now on, in every gate."""
        number: object = temperature
        if not isinstance(number, int | float) or not _COLDEST <= number < float("inf"):
            raise OptionError(
                f"a temperature of {temperature!r}",
                where="set_temperature",
                hint=f"from {_COLDEST}",
            )
        for gate in self.gates.values():
            gate.temperature = temperature

    def entropy(self) -> Tensor:
        """Sum over all rows of H(softmax(logits)) in nats, (); differentiable."""
        gates = self.gates.values()
        loops = any(gate.sampler.loops(gate.logits) for gate in gates)
        return total_entropy([gate.logits.float() for gate in gates], by_loops=loops)

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
        """The network without gates, its weights as they are now, quantised where they are quantised.

        They are not masked. Activations are not quantised; to have them so,
        `ActivationQuantizer().attach(network, input_ranges(gated.model))`.
        """
        now = values(self.places, Masked)
        return copy_with(self.source, lambda name, tensor: like(tensor, now[name]))

    def codes(self) -> Mapping[str, Codes]:
        """Quantised tensor → its codes as in eval mode, by its name in `source`.

        Scales are those of training, of all weights. A unit that is masked where it is read has codes
        of zero there.
        """
        return read(self.model, self.places)


def as_gated(value: object, where: str) -> Gated:
    """A network with gates, for whoever is given one.

    Raises:
        OptionError: it is something else, such as its model alone.
    """
    if not isinstance(value, Gated):
        raise OptionError(
            f"a {type(value).__name__} has no gates", where=where, hint="what sec.gate returns"
        )
    return value


def gate(
    model: nn.Module,
    groups: Groups,
    keep: Keep = None,
    *,
    rows: Rows = _USUAL,
    sampler: Sampler = _SAMPLER,
    start: Start = _NORMAL,
    quantizer: Quantizer | None = None,
    example: Any = None,
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
        quantizer: of the weights of every product; masks come after it. Activations are quantised by
            `ActivationQuantizer().attach(gated.model)`.
        example: as the network is called, to try out which channels need a mask only where they are
            read; those then learn from what is not drawn as well. Without it they are masked wherever
            they are, and an undrawn channel's logit learns little.
        seed: of the logits and of everything that is drawn.

    Raises:
        OptionError: k is less than one or more than n, rows do not fit, or a name is unknown.
        ModelError: a tensor has a parametrisation already, or cannot have one.
        PlanError: there is nothing to draw, or the groups are of another network.
    """
    _check_options(rows=rows, sampler=sampler, start=start, quantizer=quantizer)
    if any(isinstance(module, Gate) for module in model.modules()):
        raise ModelError(
            "has gates already", where=type(model).__name__, hint="gated.plain() is without them"
        )
    chosen = {group.name: k for group in groups if (k := _k(group, rows, keep)) is not None}
    unknown = sorted(set(keep) - {g.name for g in groups}) if isinstance(keep, Mapping) else []
    if unknown:
        known = ", ".join(g.name for g in groups)
        raise OptionError(
            "there is no such group", where=", ".join(unknown[:8]), hint=f"there are {known}"[:200]
        )
    if not chosen:
        raise PlanError("there is no unit to draw", hint="print(groups) says what was found")
    check_fits(model, Plan(groups, {g.name: torch.ones(g.size, dtype=torch.bool) for g in groups}))
    for name, k in chosen.items():
        _check_group(groups[name], k, rows)
        _check_outputs(groups[name], rows, holders(model))
    where = where_masked(model, groups, chosen, example)
    ours = copy.deepcopy(model)
    places = holders(ours)
    if quantizer is not None:
        behind = {member.name for members in where.values() for member in members}
        attach_quantizers(places, groups, quantizer, behind)
    gates: dict[str, Gate] = {}
    for group in groups:
        if group.name not in chosen:
            continue
        laid = laid_out(rows, group)
        logits = start.logits(group, laid, seed)
        made = Gate(group, laid, chosen[group.name], logits, sampler, seed)
        made.to(next(iter(model.parameters())).device)
        _hang(made, where[group.name], places)
        gates[group.name] = made
    ours.register_forward_pre_hook(_Redraw(tuple(gates.values())))
    gated = Gated(ours, groups, gates, model, places)
    if example is not None:
        _check_masked(gated, example)
    return gated


def _check_options(**options: object) -> None:
    for name, option in options.items():
        method, hint = _OPTIONS[name]
        known = not isinstance(option, type) and callable(getattr(option, method, None))
        if not known and not (name == "quantizer" and option is None):
            raise OptionError(f"{name}={option!r} makes no sense", where="gate", hint=hint)


def _check_masked(gated: Gated, example: Any) -> None:
    """The network with gates must do what the masked one does: a weight may be used beside its module."""
    plain = gated.plain()
    with untouched(gated.model):
        found = run_in_double(gated.model, example)
    with untouched(plain), masked(plain, gated.plan()):
        wanted = run_in_double(plain, example)
    if distance(found, wanted) > TOLERANCE * largest(wanted):
        raise ModelError(
            "with gates it does not do what it does with masks: a weight is used that no module holds",
            where=type(gated.source).__name__,
            hint="read weights from their modules in forward, or keep these layers whole",
        )


def _k(group: Group, rows: Rows, keep: Keep) -> int | None:
    """How many units of each row stay; None: all, without a gate."""
    if isinstance(keep, Mapping) and group.name not in keep:
        return None
    if group.pattern is not None:
        k = group.pattern[0]
        same = keep[group.name] == k if isinstance(keep, Mapping) else keep == k / group.pattern[1]
        if keep is not None and not same:
            raise OptionError(
                f"its pattern keeps {k} of {group.pattern[1]}, and keep={keep} asks for something else",
                where=group.name,
                hint="leave keep out, or Block(k, n) with other numbers",
            )
        return k
    if isinstance(keep, Mapping):
        return keep[group.name]
    share: object = keep
    if not isinstance(share, int | float) or not 0.0 < share <= 1.0:
        what = "how many units stay?" if keep is None else f"keep={keep!r} is no share of a row"
        raise OptionError(what, where=group.name, hint="keep=0.5, or a number for each group")
    n = rows.of(group).shape[1]
    return max(1, int(share * n + 0.5))


def _check_group(group: Group, k: int, rows: Rows) -> None:
    if group.gate is not None:
        raise OptionError(
            f"its {group.kind}s leave with their row of a router, which a mask that learns cannot close",
            where=group.name,
            hint="methods that score: --method fair, taylor, magnitude; or the experts' channels",
        )
    kept = k * len(laid_out(rows, group)) if type(k) is int else None
    if kept and kept < group.least.units:
        raise OptionError(
            f"keeps {kept} {group.kind}s, and {group.least.units} must stay: {group.least.why}",
            where=group.name,
        )


def _check_outputs(group: Group, rows: Rows, places: Places) -> None:
    """Rows follow the first dim: is it that of the outputs?"""
    if (
        group.kind not in {"weight", "kernel"}
        or group.pattern is not None
        or len(rows.of(group)) == 1
    ):
        return
    module = places[group.members[0].name][0][0]
    if isinstance(module, parametrize.ParametrizationList):
        return  # `attach` will refuse it
    known = isinstance(module, _OUTPUTS_FIRST) and not getattr(module, "transposed", False)
    if not known:
        raise OptionError(
            f"rows go by outputs, and of a {type(module).__name__}'s weight it is not known that these are"
            " its first dim",
            where=group.name,
            hint="keep this layer whole (--keep), or rows=PerGroup()",
        )


def _hang(gate: Gate, members: Sequence[Member], places: Places) -> None:
    """One gate, and every tensor that it masks; the first owns it."""
    owner, *others = members
    attach(places, owner.name, lambda i: Masked(gate, owner, owns=i == 0))
    for member in others:
        attach(places, member.name, partial(_shared, gate, member))


def _shared(gate: Gate, member: Member, _place: int) -> Masked:
    return Masked(gate, member, owns=False)


class _Redraw:
    """Before every call in train mode: one new mask for all that the call does."""

    def __init__(self, gates: tuple[Gate, ...]) -> None:
        self.gates = gates

    def __call__(self, module: nn.Module, _inputs: Any) -> None:
        eagerly(self._redraw, module)

    def _redraw(self, module: nn.Module) -> None:
        # In a backward pass it is a checkpoint that computes again what it has computed before.
        again = torch._C._current_graph_task_id() != -1  # noqa: SLF001
        if module.training and not again:
            for gate in self.gates:
                gate.redraw()

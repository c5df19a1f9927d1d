"""Experts of routed mixtures as units: each leaves whole, with its row of the router."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from secateur.granularity.folded import folded
from secateur.granularity.keep import kept_parameters
from secateur.granularity.mixture import Mixture, find_mixtures
from secateur.granularity.work import Work, work_of
from secateur.trace.routers import Routed, routed
from secateur.types.equation import Equation
from secateur.types.group import Activation, Fixed, Group, Groups, Member, Place, Role


@dataclass(frozen=True, slots=True)
class Experts:
    """Experts of a routed mixture, physically removable: each whole, with its row of the router.

    A mixture is a Linear layer whose output reaches a softmax, topk or the like, and beside it, in
    the same module, either one `nn.ModuleList` of as many modules with equal parameters, or
    parameters that stack as many matrices along dim 0. What is ambiguous is refused by name. Of a
    network that takes the k best experts, k always stay.

    What a mixture computes follows from the example: experts that see all samples take their work
    with them; where each sample goes to k experts, those that stay do all of it.

    Args:
        keep: modules, names or globs; a mixture of which anything is named stays whole.
    """

    keep: Sequence[str | nn.Module] = ()

    def find(self, model: nn.Module, example: Any) -> Groups:
        """One group for every mixture, called after its list of experts."""
        kept = kept_parameters(model, self.keep)
        seen = routed(model, example)
        mixtures, fixed = find_mixtures(model, seen.routers)
        stays = {m.name for m in mixtures if kept & {one.name for one in _members(model, m)}}
        fixed += [_fixed(m, "keep", "was asked to stay") for m in mixtures if m.name in stays]
        mixtures = [mixture for mixture in mixtures if mixture.name not in stays]
        work = work_of(model, example, seen.base, mixtures)
        fixed += [_fixed(m, "experts", why) for m in mixtures if (why := work.refused.get(m.name))]
        left = [mixture for mixture in mixtures if mixture.name not in work.refused]
        turned = folded(model, example, [mixture.router.module for mixture in left])
        return replace(
            seen.base,
            groups=tuple(_group(model, mixture, seen, turned) for mixture in left),
            fixed=tuple(fixed),
            extents=work.extents,
            contractions=work.contractions,
            equations=tuple(e for mixture in left for e in _equations(mixture, work)),
        )


def _fixed(mixture: Mixture, operator: str, why: str) -> Fixed:
    where = f"router {mixture.router.module}"
    return Fixed(mixture.name, mixture.router.size, operator, where, why)


def _group(model: nn.Module, mixture: Mixture, seen: Routed, turned: Collection[str]) -> Group:
    router = mixture.router
    members = _members(model, mixture)
    return Group(
        mixture.name,
        "expert",
        router.size,
        tuple(members),
        tuple(_activations(mixture, seen, members, turned)),
        least=router.least,
        gate=router.module,
        modules=mixture.modules,
    )


def _members(model: nn.Module, mixture: Mixture) -> list[Member]:
    """Rows of the router and of what is stacked, and every tensor of every expert.

    Buffers of experts leave, but are not masked: a variance of zero would be divided by.
    """
    each = torch.arange(mixture.router.size)
    parameters = dict(model.named_parameters())
    tensors = {**parameters, **dict(model.named_buffers())}

    def member(name: str, dims: tuple[int, ...], unit_of: torch.Tensor) -> Member:
        role = Role.WRITES if name in parameters else Role.SCALES
        return Member(name, tuple(tensors[name].shape), dims, unit_of, role)

    found = []
    for name, dim in mixture.rows:
        beside = name.rpartition(".")[0] != mixture.router.module and tensors[name].dim() == 1
        found.append(replace(member(name, (dim,), each), closes=beside))
    for number, path in enumerate(mixture.modules):
        for name in tensors:
            if name.startswith(f"{path}."):
                whole = member(name, (), torch.tensor([number]))
                found.append(replace(whole, masked=name in parameters))
    return found


def _activations(
    mixture: Mixture, seen: Routed, members: Sequence[Member], turned: Collection[str]
) -> list[Activation]:
    """What the router says of all experts, and what each expert, if it is a module, returns.

    Of the tensors of an expert the first one stands for all: together they make what it returns.
    """
    router = mixture.router
    dim, _ = seen.shown[router.module]
    writer = f"{router.module}.weight"
    each = torch.arange(router.size)
    rows = router.module in turned
    found = [Activation(router.module, Place.OUTPUT, 0, dim, each, writer, rows)]
    known = [seen.shown[path] for path in mixture.modules if path in seen.shown]
    if known and len(set(known)) == 1:
        dim, size = known[0]
        for number, path in enumerate(mixture.modules):  # alike, also those that did not run
            whose = torch.full((size,), number)
            first = next(m.name for m in members if m.name.startswith(f"{path}."))
            found.append(Activation(path, Place.OUTPUT, 0, dim, whose, first))
    return found


def _equations(mixture: Mixture, work: Work) -> list[Equation]:
    """Attributes that say how many experts there are follow."""
    where = f"{mixture.name} says how many experts there are"
    return [
        Equation(attribute, work.every[mixture.name], where) for attribute in mixture.attributes
    ]

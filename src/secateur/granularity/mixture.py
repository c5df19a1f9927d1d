"""Routed mixtures by structure: a router, and as many alike experts beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from secateur.granularity.alike import holders, unlike
from secateur.trace.routers import Router
from secateur.types.equation import Attribute
from secateur.types.group import Fixed


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """A router and its experts.

    Attributes:
        path: of the module that holds both.
        router: its rows are the experts, in order.
        holder: the list of experts, or the module that holds their stacked parameters.
        modules: the experts, where each is a module of one ModuleList.
        stacked: parameters whose index i along dim 0 is expert i, where they are stacked.
        attributes: ints that say how many experts there are.
    """

    path: str
    router: Router
    holder: str
    modules: tuple[str, ...]
    stacked: tuple[str, ...]
    attributes: tuple[Attribute, ...]

    @property
    def name(self) -> str:
        """What it is called: as its holder, or where that is the network itself, as its router."""
        return self.holder or self.router.module

    @property
    def rows(self) -> tuple[tuple[str, int], ...]:
        """(tensor, dim) wherever index i belongs to expert i."""
        return tuple(dict.fromkeys([*self.router.rows, *((name, 0) for name in self.stacked)]))


def find_mixtures(model: nn.Module, routers: Sequence[Router]) -> tuple[list[Mixture], list[Fixed]]:
    """Every routed mixture, and what looks like one but is refused, with the reason."""
    found: list[Mixture] = []
    refused: list[Fixed] = []
    modules = dict(model.named_modules())
    for router in routers:
        for path in _around(router.module):
            candidates = _experts(modules[path], path, router)
            if candidates:
                _judge(model, router, path, candidates, found, refused)
                break
    refused += _shared(found) + _nested(found)
    names = [fixed.name for fixed in refused]
    found = [mixture for mixture in found if mixture.name not in names]
    known = {mixture.name for mixture in found} | set(names)
    return found, refused + _without_router(model, known)


def _around(path: str) -> list[str]:
    """The module that holds a router, and the one around it, where the router has a wrapper."""
    holder = path.rpartition(".")[0]
    return [holder, holder.rpartition(".")[0]] if holder else [holder]


def _join(path: str, name: str) -> str:
    return f"{path}.{name}".lstrip(".")


_Candidate = tuple[str, tuple[str, ...], tuple[str, ...]]  # holder, modules, stacked parameters


def _experts(holder: nn.Module, path: str, router: Router) -> list[_Candidate]:
    """Lists of as many modules as the router has rows, and modules with so many stacked parameters."""
    found: list[_Candidate] = []
    own = [(path, holder)]
    for name, child in holder.named_children():
        here = _join(path, name)
        if router.module.startswith(f"{here}."):
            continue  # a layer of a list is no router of it
        if isinstance(child, nn.ModuleList) and len(child) == router.size:
            found.append((here, tuple(f"{here}.{i}" for i in range(len(child))), ()))
        elif not type(child).__module__.startswith("torch.nn"):
            own.append((here, child))
    for here, module in own:
        stacked = {
            _join(here, name): parameter.dim()
            for name, parameter in module.named_parameters(recurse=False)
            if parameter.dim() > 1 and len(parameter) == router.size
        }
        if max(stacked.values(), default=0) > 2:  # a matrix for each expert
            found.append((here, (), tuple(stacked)))
    return found


def _judge(
    model: nn.Module,
    router: Router,
    path: str,
    candidates: Sequence[_Candidate],
    found: list[Mixture],
    refused: list[Fixed],
) -> None:
    """Put what was found beside a router among the mixtures, or among what is refused."""
    holder, modules, stacked = candidates[0]
    if len(candidates) > 1:
        names = ", ".join(candidate[0] or "the network itself" for candidate in candidates)
        refused.append(_refusal(candidates[0], router, f"it could belong to each of {names}"))
        return
    why = unlike(model, modules) if modules else ""
    if not why and router.least.units >= router.size:
        why = router.least.why
    shared = holders(model, dict(model.named_parameters())[f"{router.module}.weight"])
    if not why and len(shared) > 1:
        why = f"the router is shared: {' and '.join(shared)}"
    if why:
        refused.append(_refusal(candidates[0], router, why))
        return
    attributes = _attributes(model, router, (path, holder), modules or stacked)
    found.append(Mixture(path, router, holder, modules, stacked, attributes))


def _refusal(candidate: _Candidate, router: Router, why: str) -> Fixed:
    name = candidate[0] or router.module
    return Fixed(name, router.size, "experts", f"router {router.module}", why)


def _attributes(
    model: nn.Module, router: Router, places: Sequence[str], experts: Sequence[str]
) -> tuple[Attribute, ...]:
    """Ints of the mixture, its list and its router that say how many experts there are.

    Where a size of the experts happens to be the same number, those alone whose name says so.
    """
    shapes = [
        tuple(tensor.shape[each in experts :])  # without the dim that numbers the experts
        for each, tensor in model.named_parameters()
        if each in experts or each.startswith(f"{experts[0]}.")
    ]
    weight = dict(model.named_parameters())[f"{router.module}.weight"]
    sizes = {weight.shape[1], *(size for shape in shapes for size in shape)}
    found = []
    for place in dict.fromkeys((*places, *_around(router.module)[:1])):
        for attribute, value in vars(model.get_submodule(place)).items():
            says = "expert" in attribute.lower() or router.size not in sizes
            if type(value) is int and value == router.size and attribute[0] != "_" and says:
                found.append(Attribute(place, attribute, None, value))
    found.append(Attribute(router.module, "out_features", None, router.size))
    return tuple(found)


def _shared(found: Sequence[Mixture]) -> list[Fixed]:
    """Lists that two routers lay claim to."""
    claims: dict[str, list[Mixture]] = {}
    for mixture in found:
        claims.setdefault(mixture.name, []).append(mixture)
    return [
        Fixed(
            name,
            several[0].router.size,
            "experts",
            f"router {several[0].router.module}",
            f"it has several routers: {', '.join(m.router.module for m in several)}",
        )
        for name, several in claims.items()
        if len(several) > 1
    ]


def _nested(found: Sequence[Mixture]) -> list[Fixed]:
    """Mixtures whose experts hold mixtures: what an expert computes is then no matter of one group."""
    refused = []
    for mixture in found:
        starts = tuple(f"{path}." for path in mixture.modules)
        inside = [m.name for m in found if m.router.module.startswith(starts)]
        if inside:
            why = f"its experts hold mixtures of their own: {', '.join(inside)}"
            where = f"router {mixture.router.module}"
            refused.append(Fixed(mixture.name, mixture.router.size, "experts", where, why))
    return refused


def _without_router(model: nn.Module, known: set[str]) -> list[Fixed]:
    """Lists of modules that are alike, and stacks of matrices, that nothing chooses from."""
    why = "no Linear layer beside it gives each of them a number that reaches a softmax or topk"
    found = []
    for path, module in model.named_modules():
        if path in known:
            continue
        if isinstance(module, nn.ModuleList) and len(module) > 1:
            modules = [f"{path}.{i}" for i in range(len(module))]
            if not unlike(model, modules):
                found.append(Fixed(path, len(module), "experts", "", why))
        elif not type(module).__module__.startswith("torch.nn"):
            sizes = [len(p) for p in module.parameters(recurse=False) if p.dim() > 2]
            if len(sizes) > 1 and len(set(sizes)) == 1 and sizes[0] > 1:
                found.append(Fixed(path, sizes[0], "experts", "", why))
    return found

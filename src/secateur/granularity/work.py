"""What each expert of a mixture computes: seen by running the network once more, with one expert less.

Where each sample goes to a few experts, the others do the work of one that left; where all experts see
all samples, the work goes with it. The example decides; nothing is taken from the code.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from secateur.errors import ModelError
from secateur.granularity.mixture import Mixture
from secateur.trace.groups import weights
from secateur.types.group import Contraction, Extent, Groups


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """Costs in terms of experts.

    Attributes:
        contractions: all products of the network.
        extents: what they count.
        every: mixture → position of the extent that holds all of its experts.
        refused: mixture → why its costs cannot be told.
    """

    contractions: tuple[Contraction, ...]
    extents: tuple[Extent, ...]
    every: dict[str, int]
    refused: dict[str, str]


def work_of(model: nn.Module, example: Any, base: Groups, mixtures: Sequence[Mixture]) -> Work:
    """Tell which products get shorter, or disappear, with an expert.

    Args:
        base: the products of the network as it is.
    """
    refused: dict[str, str] = {}
    less = _run(model, example, mixtures)
    if isinstance(less, ModelError):  # of several, whose fault is it?
        for mixture in mixtures:
            alone = _run(model, example, [mixture])
            if isinstance(alone, ModelError):
                refused[mixture.name] = f"with one expert less, {alone.what}"
        less = _run(model, example, [m for m in mixtures if m.name not in refused])
    if isinstance(less, ModelError):
        raise less
    counts = _Counts(base, less, mixtures)
    for mixture in mixtures:
        if mixture.name not in refused and (why := counts.settle(mixture)):
            refused[mixture.name] = f"an expert less, and its work is no whole share less: {why}"
    return Work(tuple(counts.contractions), tuple(counts.extents), counts.every, refused)


def _run(model: nn.Module, example: Any, mixtures: Iterable[Mixture]) -> Groups | ModelError:
    """The products of a copy in which each mixture has lost its last expert."""
    twin = copy.deepcopy(model)
    tensors = {**dict(twin.named_parameters()), **dict(twin.named_buffers())}
    shorter: list[nn.ModuleList] = []
    for mixture in mixtures:
        left = mixture.router.size - 1
        for name, dim in mixture.rows:
            tensors[name].data = tensors[name].data.narrow(dim, 0, left).clone()
        for attribute in mixture.attributes:
            object.__setattr__(twin.get_submodule(attribute.module), attribute.name, left)
        if mixture.modules:
            holder = twin.get_submodule(mixture.holder)
            if isinstance(holder, nn.ModuleList):
                shorter.append(holder)
    for holder in shorter:  # at the end: an expert may hold further mixtures
        del holder[-1]
    try:
        return weights(twin, example)
    except ModelError as error:
        return error


class _Counts:
    """Contractions on their way from those of the whole network to those that experts share."""

    def __init__(self, base: Groups, less: Groups, mixtures: Sequence[Mixture]) -> None:
        self._experts = {path for mixture in mixtures for path in mixture.modules}
        self._homes = {mixture.path for mixture in mixtures}
        self._before, self._after = _Products(base), _Products(less)
        self.contractions, self.extents = list(base.contractions), list(base.extents)
        self.every = {m.name: len(base.extents) + i for i, m in enumerate(mixtures)}
        for mixture in mixtures:
            each = torch.arange(mixture.router.size)
            self.extents.append(Extent(mixture.router.size, ((mixture.name, each),)))

    def settle(self, mixture: Mixture) -> str:
        """Let the products of one mixture count its experts; why not, if they cannot."""
        return (self._settle_experts(mixture) if mixture.modules else "") or self._settle_rest(
            mixture
        )

    def _settle_experts(self, mixture: Mixture) -> str:
        """Experts that are modules: each does its own work, or together they do what there is."""
        own = [self._before.inside(path) for path in mixture.modules]
        macs = [[self._before.macs[i] for i in one] for one in own]
        before, size = sum(map(sum, macs)), mixture.router.size
        rest = [i for path in mixture.modules[:-1] for i in self._after.inside(path)]
        after = sum(self._after.macs[i] for i in rest)
        if before == after:
            return ""
        if any(one != macs[0] for one in macs) or before * (size - 1) != after * size:
            return f"{before} and then {after} multiply-accumulates in {mixture.name}"
        for number, one in enumerate(own):
            self.extents.append(Extent(1, ((mixture.name, torch.tensor([number])),)))
            for i in one:
                self._count(i, self._before.macs[i], len(self.extents) - 1)
        return ""

    def _settle_rest(self, mixture: Mixture) -> str:
        """Products outside of expert modules: of the router, with stacked weights, of the outputs."""
        size, every = mixture.router.size, self.every[mixture.name]
        own, rest = (
            p.around(mixture.path, self._homes, self._experts) for p in (self._before, self._after)
        )
        for key in own.keys() | rest.keys():
            places = own.get(key, [])
            before = [self._before.macs[i] for i in places]
            after = [self._after.macs[i] for i in rest.get(key, [])]
            if before == after or sum(before) == sum(after):
                continue
            if [m * (size - 1) for m in before] == [m * size for m in after]:
                for i in places:
                    self._count(i, self._before.macs[i] // size, every)
            elif sum(before) * (size - 1) == sum(after) * size:  # one for each expert, in a loop
                for i in places:
                    self._count(i, sum(before) // size if i == places[0] else 0, every)
            else:
                where = key[0] or "the network itself"
                return f"{sum(before)} and then {sum(after)} multiply-accumulates in {where}"
        return ""

    def _count(self, position: int, fixed: int, extent: int) -> None:
        plain = self.contractions[position]
        self.contractions[position] = replace(plain, fixed=fixed, extents=(extent,))


class _Products:
    """The products of one run, and the multiply-accumulates of each."""

    def __init__(self, groups: Groups) -> None:
        sizes = [extent.size for extent in groups.extents]
        self._all = groups.contractions
        self.macs = [c.fixed * math.prod(sizes[i] for i in c.extents) for c in self._all]
        self._inside: dict[str, list[int]] = {}
        for i, c in enumerate(self._all):
            for path in _around(c.module):
                self._inside.setdefault(path, []).append(i)

    def inside(self, path: str) -> list[int]:
        """Positions of those that a module runs."""
        return self._inside.get(path, [])

    def around(
        self, home: str, homes: set[str], experts: set[str]
    ) -> dict[tuple[str, str, str | None], list[int]]:
        """Positions of those of a mixture outside of all experts, by module, operator and weight."""
        found: dict[tuple[str, str, str | None], list[int]] = {}
        for i in self.inside(home):
            c = self._all[i]
            paths = _around(c.module)
            if next((p for p in paths if p in homes), None) == home and not experts & set(paths):
                found.setdefault((c.module, c.operator, c.weight), []).append(i)
        return found


def _around(module: str) -> list[str]:
    """A module's path, and those of the modules around it, up to the network's own."""
    paths = [module]
    while paths[-1]:
        paths.append(paths[-1].rpartition(".")[0])
    return paths

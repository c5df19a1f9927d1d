"""Find the groups of a network, and try them once before anybody relies on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from secateur.errors import OptionError, SecateurError
from secateur.granularity.granularity import Channels, Granularity
from secateur.granularity.refuse import (
    refuse_empty_or_not_finite,
    refuse_not_finite,
    refuse_wrapped,
)
from secateur.mask.masked import masked_copy
from secateur.mask.shrink import shrink
from secateur.types.group import Fixed, Group, Groups
from secateur.types.kept import written
from secateur.types.outputs import distance, largest, run_in_double
from secateur.types.plan import Plan

_TOLERANCE = 1e-3  # of the largest output, in the network's own dtype: coarse faults, not rounding


def groups(model: nn.Module, example: Any, granularity: Granularity | None = None) -> Groups:
    """Find what can be pruned, and what cannot and why. The model is left as it was.

    What is found is tried on a copy: half of every group is cut, and the result compared with the
    masked network; experts are cut in several ways, so that none is taken for another. A group that
    breaks the network, or silently changes what it computes (a Python loop over its width, say), is
    put back and listed as fixed by "trial".

    Args:
        model: any module that runs on the example; not wrapped for data-parallel or compiled use.
        example: a tensor; a tuple or list of positional arguments; or a dict of keyword arguments.
        granularity: what a unit is; `Channels()` where not given.

    Raises:
        ModelError: the model is wrapped, holds values that are not finite, or does not run.
        DataError: the example is empty or not finite.
        OptionError: `granularity` is not one.
        UnknownNameError: a name in `keep` matches nothing.
    """
    refuse_wrapped(model)
    refuse_not_finite(model)
    refuse_empty_or_not_finite(example)
    if granularity is not None and not _is_granularity(granularity):
        raise OptionError(
            f"{granularity!r} is no granularity",
            hint="a value such as sec.Channels() or sec.Weights()",
        )
    found = (granularity or Channels()).find(model, example)
    refused: dict[str, str] = {}
    removable = [group for group in found if group.removable]
    exact = [group for group in removable if not group.declared]
    for candidates, compare in ((exact, True), (removable, False)):
        left = [group for group in candidates if group.name not in refused]
        if candidates and (compare or len(removable) > len(exact)):
            refused |= _culprits(model, example, found, left, compare=compare)
    return _without(found, refused) if refused else found


def _is_granularity(value: object) -> bool:
    return isinstance(value, Granularity) and not isinstance(value, type)


def _culprits(
    model: nn.Module, example: Any, found: Groups, candidates: Sequence[Group], *, compare: bool
) -> dict[str, str]:
    """Groups that cannot be cut, and what happened."""
    if _fault(model, example, found, candidates, compare=compare) is None:
        return {}
    faults: dict[str, str] = {}
    good: list[Group] = []
    for group in candidates:  # alone, and together with those that went well
        fault = _fault(model, example, found, [*good, group], compare=compare)
        if fault is None:
            good.append(group)
        else:
            faults[group.name] = fault
    return faults


def _fault(
    model: nn.Module, example: Any, found: Groups, cut: Sequence[Group], *, compare: bool
) -> str | None:
    """What goes wrong when half of these groups is cut; None where nothing does."""
    faults = (_seen(model, example, Plan(found, m), compare=compare) for m in _trials(found, cut))
    return next((fault for fault in faults if fault is not None), None)


def _trials(found: Groups, cut: Sequence[Group]) -> Iterator[dict[str, Tensor]]:
    """Masks to try: half of every group, drawn at random; then those that tell each unit from all others.

    What a gate says of unit i must be about unit i. Where it is about another, some mask that takes
    the units whose number has a certain bit leaves the wrong ones.
    """
    if not cut:
        return
    draw = torch.Generator().manual_seed(0)
    whole = {group.name: torch.ones(group.size, dtype=torch.bool) for group in found}
    masks = {name: mask.clone() for name, mask in whole.items()}
    for group in cut:
        half = min(group.size // 2, group.size - group.least.units)
        masks[group.name][torch.randperm(group.size, generator=draw)[:half]] = False
    yield masks
    gated = [group for group in cut if group.gate is not None]
    for bit in range(max(((group.size - 1).bit_length() for group in gated), default=0)):
        masks = dict(whole)
        for group in gated:
            gone = (torch.arange(group.size) >> bit) % 2 == 1
            masks[group.name] = ~gone | (gone.cumsum(0) > group.size - group.least.units)
        yield masks


def _seen(model: nn.Module, example: Any, plan: Plan, *, compare: bool) -> str | None:
    """What goes wrong when a plan is carried out; None where nothing does."""
    try:
        cut_out = run_in_double(shrink(model, plan).eval(), example)
    except (SecateurError, RuntimeError, TypeError, ValueError, IndexError, KeyError, AttributeError,
            AssertionError) as error:  # fmt: skip
        return f"{type(error).__name__}: {error}".splitlines()[0]
    if not compare:
        return None
    hidden = run_in_double(masked_copy(model, plan).eval(), example)
    if [t.shape for t in hidden] != [t.shape for t in cut_out]:
        return "the outputs change their shape"
    for a, b in zip(hidden, cut_out, strict=True):
        if distance([a], [b]) > _TOLERANCE * largest([a]):
            return "cut and masked, the network computes different things"
    return None


def _without(found: Groups, refused: dict[str, str]) -> Groups:
    """The groups that are left; the others are told as fixed."""
    fixed = [
        Fixed(name, group.size, "trial", f"group {group.name}", refused[group.name])
        for group in found
        if group.name in refused
        for name in ([group.name] if group.gate else [m.name for m in written(group)])
    ]
    left = tuple(group for group in found if group.name not in refused)
    extents = tuple(
        replace(e, parts=tuple((n, u) for n, u in e.parts if n not in refused))
        for e in found.extents
    )
    return replace(found, groups=left, fixed=(*found.fixed, *fixed), extents=extents)

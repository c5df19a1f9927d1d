"""A saliency scored apart on each layer of a group: what Domino's sums are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from secateur.errors import OptionError
from secateur.saliency.portions import Portion
from secateur.saliency.protocol import Saliency, Seen, State, add
from secateur.saliency.shown import Shown


def check_leaf(base: object, wrapper: str) -> None:
    """A composition cannot be wrapped: its parts are normalised over whole groups.

    Raises:
        OptionError: it is a composition, or no saliency.
    """
    if not isinstance(base, Saliency):
        raise OptionError(
            f"{base} is no single saliency",
            where=wrapper,
            hint=f"as {wrapper}(sec.Taylor()); compose outside: {wrapper}(a) + {wrapper}(b)",
        )


def start(base: Saliency, portions: Sequence[Portion]) -> State:
    """The states of all portions as one."""
    return {
        _key(portion, key): value
        for portion in portions
        for key, value in base.start(portion.group).items()
    }


def observe(base: Saliency, portions: Sequence[Portion], state: State, seen: Seen) -> State:
    """Let the saliency look at every portion; at a site, at the one whose work is seen there."""
    found = dict(state)
    for portion in portions:
        part = seen_of(base, portion, seen)
        if part is not None:
            own = base.observe(state_of(portion, state), part)
            found |= {_key(portion, key): value for key, value in own.items()}
    return found


def finish(base: Saliency, portions: Sequence[Portion], state: State) -> list[Tensor]:
    """The scores of each portion's units, float64 (m,)."""
    settled = [base.settled(state_of(p, state), p.group) for p in portions]
    return [
        base.finish(found, p.group).to(torch.float64)
        for p, found in zip(portions, settled, strict=True)
    ]


def state_of(portion: Portion, state: State) -> State:
    """What a state holds of one portion."""
    prefix = _key(portion, "")
    return {k.removeprefix(prefix): value for k, value in state.items() if k.startswith(prefix)}


def add_to(portion: Portion, state: State, more: State) -> State:
    """The state with what else was seen of one portion."""
    both = add(state_of(portion, state), more)
    return state | {_key(portion, key): value for key, value in both.items()}


def seen_of(base: Saliency, portion: Portion, seen: Seen) -> Seen | None:
    """What was seen, of one portion; None where it is the work of others."""
    part, shown = replace(seen, group=portion.group), seen.shown
    if shown is None:
        return part
    activation = shown.activation
    if activation.writer not in portion.writers and portion.group is not shown.group:
        return None
    if portion.group.size == shown.group.size:
        return part  # all sums over the site are shared
    need = base.site_need
    slopes = shown.slopes if need is not None and need.of_loss else None
    part_of = portion.renumbered(activation)
    place = portion.group, part_of, shown.batch
    return replace(part, shown=Shown(*place, shown.values, slopes, shown.own, shown.asked))


def _key(portion: Portion, key: str) -> str:
    return f"{portion.group.name}: {key}"

"""Granularities by name: `channels`, `heads`, `experts`, `weights`, `kernels`, `block:2:4`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from torch import nn

from secateur.errors import OptionError
from secateur.granularity import Block, Channels, Experts, Granularity, Heads, Kernels, Weights
from secateur.lookup import pick

GRANULARITIES: dict[str, Callable[..., Granularity]] = {
    "channels": Channels,
    "heads": Heads,
    "experts": Experts,
    "weights": Weights,
    "kernels": Kernels,
    "block": Block,
}

_OURS = (Channels, Heads, Experts, Weights, Kernels, Block)


def find_granularity(
    chosen: str | Granularity | None, keep: Sequence[str | nn.Module]
) -> Granularity:
    """A granularity by its text or as it is, with more to keep; `channels` where none is given.

    Raises:
        UnknownNameError: no granularity has this name.
        OptionError: numbers are missing or too many, or the given one cannot keep anything.
    """
    if isinstance(keep, str | nn.Module):
        raise OptionError("`keep` is a list", where="keep", hint=f"keep=[{keep!r}]"[:80])
    made = _made(chosen) if isinstance(chosen, str) else chosen or Channels()
    if not keep:
        return made
    if isinstance(made, _OURS):
        return dataclasses.replace(made, keep=(*made.keep, *keep))
    raise OptionError(f"{made} takes no `keep`", where="keep", hint="say it in the granularity")


def text_of(granularity: Granularity) -> str:
    """As `find_granularity` reads it, without what is kept: "channels", "block:2:4:1"."""
    name = type(granularity).__name__.lower()
    if not isinstance(granularity, _OURS):
        return name if " at 0x" in str(granularity) else str(granularity)
    fields = [field.name for field in dataclasses.fields(granularity) if field.name != "keep"]
    return ":".join([name, *(str(getattr(granularity, field)) for field in fields)])


def _made(text: str) -> Granularity:
    name, *numbers = text.split(":")
    make = pick(name, GRANULARITIES, "granularity")
    wanted = (2, 3) if name == "block" else (0,)
    if len(numbers) not in wanted or not all(n.removeprefix("-").isdecimal() for n in numbers):
        raise OptionError(
            f"cannot read the granularity {text!r}",
            where="granularity",
            hint="block:2:4 keeps 2 of every 4, block:2:4:0 along dim 0; the others take no numbers",
        )
    made: Granularity = make(*map(int, numbers))
    return made

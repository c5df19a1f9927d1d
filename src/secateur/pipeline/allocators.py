"""Allocators by name: `ranked`, `uniform`."""

from __future__ import annotations

from typing import Protocol

from secateur.allocate import Allocator, Ranked, Uniform
from secateur.lookup import pick


class Make(Protocol):
    """What builds an allocator that goes by one saliency."""

    def __call__(self, by: str, floor: int | float, round_to: int) -> Allocator:
        """The allocator."""
        ...


ALLOCATORS: dict[str, Make] = {"ranked": Ranked, "uniform": Uniform}


def find_allocator(
    chosen: str | Allocator, by: str, floor: int | float, round_to: int
) -> Allocator:
    """An allocator by its name or as it is.

    Raises:
        UnknownNameError: no allocator has this name.
        OptionError: a floor or rounding that makes no sense.
    """
    if not isinstance(chosen, str):
        return chosen
    make: Make = pick(chosen, ALLOCATORS, "allocator")
    return make(by=by, floor=floor, round_to=round_to)

"""Methods by name: the one table of what can follow `--method`.

A method of one's own needs no row here: `path.py:Name` names a saliency, or a function that returns
one or a `Method`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from secateur.allocate import Allocator
from secateur.errors import OptionError
from secateur.lookup import call, check_options, literal, pick, split_options
from secateur.saliency import Magnitude, Need, Random, Saliency, Taylor


@dataclass(frozen=True, slots=True)
class Method:
    """What scores the units, and who decides by the scores.

    Attributes:
        saliencies: scored in one pass.
        allocator: of a recipe that brings its own; None: the caller's, by the first saliency.
    """

    saliencies: tuple[Saliency, ...]
    allocator: Allocator | None = None

    @property
    def by(self) -> str:
        """The saliency that an allocator of the caller goes by."""
        return self.saliencies[0].name

    @property
    def needs_data(self) -> bool:
        """Whether a saliency looks at more than weights."""
        return any(saliency.needs - {Need.WEIGHTS} for saliency in self.saliencies)


SALIENCIES: dict[str, Callable[..., Saliency]] = {
    "magnitude": Magnitude,
    "random": Random,
    "taylor": Taylor,
}

# published pruning systems: a row is a function that returns a `Method`
RECIPES: dict[str, Callable[..., Method]] = {}


def find_method(chosen: str | Saliency | Method, seed: int) -> Method:
    """A method by its name with options ("magnitude?p=1"), by `path.py:Name`, or as it is.

    Args:
        seed: for a method that draws, unless its text says another.

    Raises:
        UnknownNameError: no method has this name.
        OptionError: it has no such option, or the text names something else.
    """
    made: object = _made(chosen, seed) if isinstance(chosen, str) else chosen
    if isinstance(made, Method):
        return made
    if isinstance(made, type) or not isinstance(made, Saliency):
        raise OptionError(
            f"{str(chosen)[:80]!r} gives no saliency",
            where="method",
            hint="a name that `secateur methods` lists, a saliency as sec.Taylor(), or file.py:Name",
        )
    return Method((made,))


def _made(text: str, seed: int) -> Any:
    rest, options = split_options(text)
    values = {name: literal(value) for name, value in options.items()}
    if ":" in rest:
        return call(rest, **values)
    make = pick(rest, {**SALIENCIES, **RECIPES}, "method")
    known = inspect.signature(make).parameters
    check_options(values, known, where=text)
    if "seed" in known:
        values.setdefault("seed", seed)
    return make(**values)

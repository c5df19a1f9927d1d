"""Which saliencies to score: one, several, or several by name; compositions are taken apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn

from secateur.compose.composable import Composable, Composed
from secateur.errors import OptionError
from secateur.saliency.need import Need
from secateur.saliency.protocol import Saliency

Chosen = Composable | Sequence[Composable] | Mapping[str, Composable]
"""One saliency or composition, several, or several under names of one's own."""


def named(saliencies: Chosen) -> dict[str, Composable]:
    """Saliencies and compositions by the name of their scores.

    Raises:
        OptionError: there is none, one is something else, or two have one name.
    """
    if isinstance(saliencies, Mapping):
        return {name: _checked(saliency) for name, saliency in saliencies.items()} or _none()
    several = saliencies if isinstance(saliencies, Sequence) else [saliencies]
    chosen: dict[str, Composable] = {}
    for saliency in map(_checked, several):
        name = saliency.name
        if name in chosen:
            raise OptionError(
                f"{chosen[name]} and {saliency} are both called {name!r}",
                where="saliencies",
                hint=f'name them: {{"{name}": {chosen[name]}, "other": {saliency}}}',
            )
        chosen[name] = saliency
    return chosen or _none()


def leaves(saliencies: Chosen) -> dict[str, Saliency]:
    """The distinct saliencies that must be scored, each under a name of its own.

    A saliency that stands for itself keeps the name of its scores; the parts of compositions are
    numbered where their names are taken. Equal choices give equal names, on any machine.

    Raises:
        OptionError: as `named`.
    """
    chosen = named(saliencies)
    found: dict[str, Saliency] = {}
    for name, saliency in chosen.items():
        if isinstance(saliency, Saliency) and saliency not in found.values():
            found[name] = saliency
    for saliency in chosen.values():
        for leaf in _leaves(saliency):
            if leaf not in found.values():
                tries = (f"{leaf.name}.{i}" if i else leaf.name for i in range(len(found) + 1))
                found[next(name for name in tries if name not in found)] = leaf
    return found


def _leaves(saliency: Composable) -> Iterator[Saliency]:
    if isinstance(saliency, Composed):
        for part in saliency.parts:
            yield from _leaves(part)
    elif isinstance(saliency, Saliency):
        yield saliency


def _checked(saliency: object) -> Composable:
    if isinstance(saliency, Composed):
        for part in saliency.parts:
            _checked(part)
        return saliency
    if not isinstance(saliency, Saliency):
        raise OptionError(
            f"{saliency!r} is no saliency",
            where="saliencies",
            hint="one or several of sec.Magnitude(), sec.Taylor(), ...; one's own derives from"
            " secateur.saliency.Saliency",
        )
    sites = [need for need in saliency.needs if isinstance(need, Need) and need.at_sites]
    if len(sites) > 1:
        raise OptionError(
            f"needs {' and '.join(sorted(need.value for need in sites))}, and a saliency can be"
            " observed at one kind of site only",
            where=str(saliency),
            hint="blend two saliencies instead",
        )
    return saliency


def _none() -> NoReturn:
    raise OptionError("there is no saliency", where="saliencies")

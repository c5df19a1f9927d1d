"""What is noted while a network runs."""

from __future__ import annotations

from dataclasses import dataclass

from secateur.trace.classes import Ids
from secateur.trace.field import Leaf
from secateur.trace.flow import Flow
from secateur.types.equation import Expression
from secateur.types.group import Place


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something is pinned or declared."""

    operator: str
    where: str
    why: str


@dataclass(frozen=True, slots=True)
class Block:
    """The ids of one dim of one named tensor: `start`, ..., `start + size - 1`."""

    name: str
    dim: int
    start: int
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class Statistic:
    """Each row of ids enters one statistic: removing part of a row changes it for the others."""

    sets: Ids  # (rows, members)
    reason: Reason


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """Of a row of ids, `count` are chosen by their values; 0 where all take part, by their share."""

    ids: Ids
    count: int
    reason: Reason


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """A contraction: MACs = fixed x the live counts of the extents."""

    module: str
    operator: str
    fixed: int
    extents: tuple[int, ...]
    weight: str | None
    uses: int


@dataclass(frozen=True, slots=True, eq=False)
class Size:
    """The code used `expression` as the size of `extent`."""

    expression: Expression
    extent: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class Number:
    """The code used a size as a number, which changes when the size does."""

    expression: Expression
    reason: Reason


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """A dim of what a module is given or returns, index by index."""

    module: str
    place: Place
    position: int
    dim: int
    ids: Ids
    leaves: frozenset[Leaf]  # the parameters that entered since the last product
    flow: Flow

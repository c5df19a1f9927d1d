"""Leaves without a network, and scores for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

from secateur.compose import Composable

Row = dict[str, Tensor]

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
TIES = st.sampled_from([-2.0, -0.0, 0.0, 0.5, 1.0, 3.0])
POSITIVE = st.floats(0.0, 2.0**60, width=32)
# neighbours among float32 numbers, which plain rounding makes equal
NEIGHBOURS = st.sampled_from([0.0, 1.75]) | st.integers(0, 300).map(lambda i: 0.875 + i * 2.0**-24)


@dataclass(frozen=True, slots=True)
class Leaf(Composable):
    label: str

    def __str__(self) -> str:
        return self.label


A, B, C = map(Leaf, "abc")


@st.composite
def sizes(draw: st.DrawFn) -> list[int]:
    return draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))


def row(units: list[int], values: st.SearchStrategy[float]) -> st.SearchStrategy[Row]:
    groups = (st.lists(values, min_size=n, max_size=n) for n in units)
    return st.tuples(*groups).map(
        lambda found: {f"g{i}": torch.tensor(v, dtype=torch.float32) for i, v in enumerate(found)}
    )


@st.composite
def rows(draw: st.DrawFn, parts: int, values: st.SearchStrategy[float]) -> list[Row]:
    units = draw(sizes())
    return [draw(row(units, values)) for _ in range(parts)]


def ranks(values: Tensor) -> list[int]:
    """The order of a vector, ties included: two vectors sort alike where these are equal."""
    return values.unique(return_inverse=True)[1].tolist()


def flat(scores: Row) -> Tensor:
    return torch.cat(list(scores.values()))


def mapped(scores: Row, function: Callable[[Tensor], Tensor]) -> Row:
    return {group: function(values) for group, values in scores.items()}

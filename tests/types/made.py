"""Groups made by chance: any shape that the types allow, far beyond what a real network has."""

from __future__ import annotations

import math

import torch
from hypothesis import strategies as st
from torch import Tensor

from secateur.types import (
    Activation,
    Contraction,
    Declared,
    Equation,
    Extent,
    Fixed,
    Group,
    Groups,
    Least,
    Member,
    Place,
    Plan,
    Role,
)
from secateur.types.equation import OPERATORS, Attribute, Constant, Count, Expression, Operation

NAMES = st.text("abcdefgh._0123456789ü\n\"'", min_size=1, max_size=8)
SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)
ATTRIBUTES = st.builds(
    Attribute,
    st.sampled_from(["", "a.b"]),
    st.sampled_from("xyz"),
    st.none() | st.integers(0, 2),
    st.just(4),
)


def expressions(extents: int) -> st.SearchStrategy[Expression]:
    """Expressions over a few attributes and the counts of `extents` extents."""
    leaves: st.SearchStrategy[Expression] = st.builds(Constant, st.integers(-4, 12)) | ATTRIBUTES
    if extents:
        leaves |= st.builds(Count, st.integers(0, extents - 1))
    return st.recursive(
        leaves,
        lambda inner: st.builds(Operation, st.sampled_from(OPERATORS), inner, inner),
        max_leaves=6,
    )


@st.composite
def vectors(draw: st.DrawFn, length: int, units: int) -> Tensor:
    """A `unit_of`: int64 (length,), from -1 to units - 1."""
    entries = draw(st.lists(st.integers(-1, units - 1), min_size=length, max_size=length))
    return torch.tensor(entries, dtype=torch.int64)


@st.composite
def members(draw: st.DrawFn, name: str, shape: tuple[int, ...], units: int) -> Member:
    """A member over any ascending dims of a parameter."""
    chosen = draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))
    dims = tuple(sorted(chosen))
    unit_of = draw(vectors(math.prod(shape[d] for d in dims), units))
    flags = draw(st.booleans()), draw(st.booleans())
    return Member(name, shape, dims, unit_of, draw(st.sampled_from(Role)), *flags)


@st.composite
def group_of(draw: st.DrawFn, name: str, shapes: dict[str, tuple[int, ...]]) -> Group:
    """A group with up to three members among the parameters of `shapes`."""
    size = draw(st.integers(1, 6))
    parameters = draw(st.lists(st.sampled_from(sorted(shapes)), max_size=3))
    block = draw(st.sampled_from([m for m in range(1, size + 1) if size % m == 0]))
    return Group(
        name,
        draw(st.sampled_from(["channel", "weight"])),
        size,
        tuple(draw(members(parameter, shapes[parameter], size)) for parameter in parameters),
        tuple(
            Activation(
                module,
                draw(st.sampled_from(Place)),
                draw(st.integers(0, 2)),
                draw(st.integers(-1, 3)),
                unit_of,
                draw(st.none() | NAMES),
                draw(st.booleans()),
            )
            for module, unit_of in draw(st.lists(st.tuples(NAMES, vectors(3, size)), max_size=2))
        ),
        tuple(Declared(*pair) for pair in draw(st.lists(st.tuples(NAMES, NAMES), max_size=2))),
        draw(st.none() | st.tuples(st.integers(1, block), st.just(block))),
        draw(st.booleans()),
        Least(draw(st.integers(1, size)), draw(NAMES)),
        draw(st.none() | NAMES),
        draw(st.sampled_from([(), tuple(f"list.{i}" for i in range(size))])),
    )


@st.composite
def groups(draw: st.DrawFn) -> Groups:
    """Everything a `Groups` can hold."""
    shapes = draw(st.dictionaries(NAMES, SHAPES, min_size=1, max_size=4))
    names = draw(st.lists(NAMES, unique=True, max_size=3))
    found = tuple(draw(group_of(name, shapes)) for name in names)
    extents = []
    for size in draw(st.lists(st.integers(1, 5), max_size=3)):
        taking_part = draw(st.lists(st.sampled_from(found), max_size=2)) if found else []
        parts = tuple((group.name, draw(vectors(size, group.size))) for group in taking_part)
        extents.append(Extent(size, parts))
    at = st.integers(0, len(extents) - 1)
    contractions, equations = [], []
    if extents:
        contractions = draw(
            st.lists(
                st.builds(
                    Contraction,
                    NAMES,
                    NAMES,
                    st.integers(1, 10**12),
                    st.lists(at, max_size=3).map(tuple),
                    st.none() | NAMES,
                    st.integers(1, 100),
                ),
                max_size=2,
            )
        )
        equation = st.builds(Equation, expressions(len(extents)), at, NAMES)
        equations = draw(st.lists(equation, max_size=2))
    return Groups(
        found,
        tuple(draw(st.lists(st.builds(Fixed, NAMES, st.integers(1), NAMES, NAMES, NAMES)))),
        shapes,
        frozenset(draw(st.sets(st.sampled_from(sorted(shapes))))),
        tuple(extents),
        tuple(contractions),
        tuple(equations),
    )


@st.composite
def masks(draw: st.DrawFn, group: Group) -> Tensor:
    """Any mask that keeps as many as must stay."""
    kept = draw(st.sets(st.integers(0, group.size - 1), min_size=group.least.units))
    return torch.tensor([unit in kept for unit in range(group.size)])


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Groups with a mask each."""
    found = draw(groups())
    about = draw(st.dictionaries(NAMES, st.none() | st.floats(allow_nan=False) | NAMES, max_size=2))
    return Plan(found, {group.name: draw(masks(group)) for group in found}, about)

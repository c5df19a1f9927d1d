"""Solve the size equations of a network for its attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from secateur.types.equation import (
    Attribute,
    Equation,
    Expression,
    Operation,
    attributes,
    evaluate,
    invert,
)


@dataclass(frozen=True, slots=True)
class Solution:
    """New values of all attributes that occur in equations, and the equations that cannot hold."""

    values: Mapping[Attribute, int]
    broken: tuple[Equation, ...]


def solve(equations: Sequence[Equation], live: Mapping[int, int]) -> Solution:
    """Find attribute values such that every equation holds.

    Attributes that stand alone are read off first, then those inside + - *; divisions have several
    answers, so there the dense value is tried before the inverse.

    Args:
        live: the live count of every extent that the equations mention.
    """
    known: dict[Attribute, int] = {}
    sure = [e for e in equations if not _divides(e.expression)]
    unsure = [e for e in equations if _divides(e.expression)]
    _propagate(sure, live, known)
    for equation in unsure:
        unknown = attributes(equation.expression) - known.keys()
        if unknown:
            dense = known | {a: a.value for a in unknown}
            if evaluate(equation.expression, dense, live) == live[equation.extent]:
                known = dense
            else:
                _propagate([equation], live, known)
            _propagate(sure, live, known)
    for equation in equations:
        for attribute in attributes(equation.expression):
            known.setdefault(attribute, attribute.value)
    broken = [e for e in equations if evaluate(e.expression, known, live) != live[e.extent]]
    return Solution(known, tuple(broken))


def _propagate(
    equations: Sequence[Equation], live: Mapping[int, int], known: dict[Attribute, int]
) -> None:
    """Solve equations with one unknown until nothing changes."""
    changed = True
    while changed:
        changed = False
        for equation in equations:
            found = invert(equation.expression, live[equation.extent], known, live)
            if found is not None and found[0] not in known:
                known[found[0]] = found[1]
                changed = True


def _divides(expression: Expression) -> bool:
    return isinstance(expression, Operation) and (
        expression.operator in ("//", "%")
        or _divides(expression.left)
        or _divides(expression.right)
    )

"""Sizes that the model's own code computes, as equations between attributes and live counts.

`x.view(b, n, self.heads, c // self.heads)` gives two equations: the attribute `heads` equals the
live count of dim 2, and `c // heads` that of dim 3. They tell, before anything is cut, which
attributes must change and to what, and which units the code forbids to remove.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal in the model's code."""

    value: int


@dataclass(frozen=True, slots=True)
class Attribute:
    """An int attribute of a module: `module.name`, or `module.name[index]` of a tuple or list."""

    module: str
    name: str
    index: int | None
    value: int  # in the dense network

    def __str__(self) -> str:
        place = "" if self.index is None else f"[{self.index}]"
        return f"{self.module}.{self.name}{place}".lstrip(".")


@dataclass(frozen=True, slots=True)
class Count:
    """How many indices of an extent are live."""

    extent: int  # position in Groups.extents


@dataclass(frozen=True, slots=True)
class Operation:
    """`left operator right`; the operator is one of `OPERATORS`."""

    operator: str
    left: Expression
    right: Expression


OPERATORS = ("+", "-", "*", "//", "%")
Expression = Constant | Attribute | Count | Operation


@dataclass(frozen=True, slots=True)
class Equation:
    """`expression` must equal the live count of `extent` at `where`."""

    expression: Expression
    extent: int
    where: str


def attributes(expression: Expression) -> set[Attribute]:
    """All attributes that occur in an expression."""
    if isinstance(expression, Attribute):
        return {expression}
    if isinstance(expression, Operation):
        return attributes(expression.left) | attributes(expression.right)
    return set()


def counts(expression: Expression) -> set[int]:
    """All extents that an expression counts."""
    if isinstance(expression, Count):
        return {expression.extent}
    if isinstance(expression, Operation):
        return counts(expression.left) | counts(expression.right)
    return set()


def evaluate(
    expression: Expression, known: Mapping[Attribute, int], live: Mapping[int, int]
) -> int | None:
    """Value of an expression; None where an attribute is not known or a division has no value."""
    if isinstance(expression, Constant):
        return expression.value
    if isinstance(expression, Attribute):
        return known.get(expression)
    if isinstance(expression, Count):
        return live[expression.extent]
    left = evaluate(expression.left, known, live)
    right = evaluate(expression.right, known, live)
    if left is None or right is None:
        return None
    match expression.operator:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case "//":
            return left // right if right else None
        case "%":
            return left % right if right else None
    return None


def invert(
    expression: Expression, value: int, known: Mapping[Attribute, int], live: Mapping[int, int]
) -> tuple[Attribute, int] | None:
    """The one attribute that makes `expression == value`, and its value.

    None where no attribute or more than one is unknown, or no value is the obvious one:
    `x // 4 == 3` is taken to mean 12, `x % 4 == 3` means nothing.
    """
    if isinstance(expression, Attribute):
        return None if expression in known else (expression, value)
    if not isinstance(expression, Operation):
        return None
    left = evaluate(expression.left, known, live)
    right = evaluate(expression.right, known, live)
    if left is None and right is not None:
        inner = _undo_right(expression.operator, value, right)
        return None if inner is None else invert(expression.left, inner, known, live)
    if right is None and left is not None:
        inner = _undo_left(expression.operator, value, left)
        return None if inner is None else invert(expression.right, inner, known, live)
    return None


def _undo_right(operator: str, value: int, right: int) -> int | None:
    """x such that `x operator right == value`."""
    match operator:
        case "+":
            return value - right
        case "-":
            return value + right
        case "*":
            return value // right if right and value % right == 0 else None
        case "//":
            return value * right if right else None  # the sizes of code that runs divide evenly
    return None


def _undo_left(operator: str, value: int, left: int) -> int | None:
    """x such that `left operator x == value`."""
    match operator:
        case "+":
            return value - left
        case "-":
            return left - value
        case "*":
            return value // left if left and value % left == 0 else None
        case "//":
            return left // value if left and value and left % value == 0 else None
    return None


def to_json(expression: Expression) -> Any:
    """A plain JSON value; `from_json` reads it back."""
    if isinstance(expression, Constant):
        return expression.value
    if isinstance(expression, Count):
        return {"live": expression.extent}
    if isinstance(expression, Attribute):
        return {
            "module": expression.module,
            "name": expression.name,
            "index": expression.index,
            "value": expression.value,
        }
    return {
        "operator": expression.operator,
        "left": to_json(expression.left),
        "right": to_json(expression.right),
    }


def from_json(value: Any) -> Expression:
    """Inverse of `to_json`.

    Raises:
        KeyError, TypeError, ValueError: the value is malformed.
    """
    if isinstance(value, int):
        return Constant(value)
    if "live" in value:
        return Count(int(value["live"]))
    if "operator" in value:
        if value["operator"] not in OPERATORS:
            raise ValueError(f"there is no operator {value['operator']!r}")
        left, right = from_json(value["left"]), from_json(value["right"])
        return Operation(value["operator"], left, right)
    index = value["index"]
    place = None if index is None else int(index)
    return Attribute(str(value["module"]), str(value["name"]), place, int(value["value"]))

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.types import equation
from secateur.types.equation import Attribute, Constant, Count, Expression, Operation
from tests.types.made import ATTRIBUTES, expressions

HEADS = Attribute("attn", "heads", None, 4)
WIDTH = Attribute("attn", "width", None, 32)
STEPS = Attribute("", "n", 1, 2)
KNOWN = st.dictionaries(ATTRIBUTES, st.integers(-8, 40))


def _twin(
    expression: Expression, known: Mapping[Attribute, int], live: Mapping[int, int]
) -> int | None:
    """The same value, by Python itself."""
    try:
        return int(eval(_python(expression, known, live)))
    except (ZeroDivisionError, KeyError):
        return None


def _python(expression: Expression, known: Mapping[Attribute, int], live: Mapping[int, int]) -> str:
    if isinstance(expression, Operation):
        left = _python(expression.left, known, live)
        right = _python(expression.right, known, live)
        return f"({left} {expression.operator} {right})"
    if isinstance(expression, Attribute):
        return f"({known[expression]})"
    return f"({live[expression.extent] if isinstance(expression, Count) else expression.value})"


@given(expressions(3), KNOWN, st.lists(st.integers(0, 20), min_size=3, max_size=3))
def test_evaluate_is_what_python_computes(
    expression: Expression, known: dict[Attribute, int], counted: list[int]
) -> None:
    live = dict(enumerate(counted))
    assert equation.evaluate(expression, known, live) == _twin(expression, known, live)


@given(expressions(3), KNOWN, st.integers(-50, 50))
def test_what_invert_finds_solves_the_equation(
    expression: Expression, known: dict[Attribute, int], value: int
) -> None:
    live = {0: 4, 1: 6, 2: 0}
    found = equation.invert(expression, value, known, live)
    if found is not None:
        attribute, solution = found
        assert attribute not in known
        assert equation.evaluate(expression, known | {attribute: solution}, live) == value


@given(
    st.sampled_from(["+", "-", "*", "//"]), st.integers(1, 30), st.integers(1, 30), st.booleans()
)
def test_invert_undoes_every_operator(operator: str, x: int, other: int, first: bool) -> None:
    if operator == "//":  # only what divides evenly can be undone
        x, other = (x * other, other) if first else (x, x * other)
    sides = (HEADS, Constant(other)) if first else (Constant(other), HEADS)
    expression = Operation(operator, *sides)
    value = equation.evaluate(expression, {HEADS: x}, {})
    assert value is not None
    assert equation.invert(expression, value, {}, {}) == (HEADS, x)


def test_invert_reaches_through_a_nest() -> None:
    # 3 * (width // heads) == 24 with 4 heads counted live: width is 32
    nest = Operation("*", Constant(3), Operation("//", WIDTH, Count(0)))
    assert equation.invert(nest, 24, {}, {0: 4}) == (WIDTH, 32)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        (HEADS, 3),  # known already
        (Operation("*", WIDTH, WIDTH), 16),  # unknown twice
        (Operation("*", WIDTH, STEPS), 16),  # two unknowns
        (Operation("*", WIDTH, Constant(3)), 16),  # no whole number
        (Operation("*", WIDTH, Constant(0)), 0),  # any number
        (Operation("//", WIDTH, Constant(0)), 0),
        (Operation("//", Constant(0), WIDTH), 3),  # a zero has no divisor that gives three
        (Operation("//", Constant(7), WIDTH), 2),
        (Operation("%", WIDTH, Constant(4)), 2),
        (Operation("+", Constant(1), Constant(2)), 3),  # nothing unknown
        (Constant(3), 3),
        (Count(0), 3),
    ],
)
def test_invert_does_not_guess(expression: Expression, value: int) -> None:
    assert equation.invert(expression, value, {HEADS: 2}, {0: 3}) is None


@given(expressions(3))
def test_json_holds_every_expression(expression: Expression) -> None:
    text = json.dumps(equation.to_json(expression))
    assert equation.from_json(json.loads(text)) == expression


@pytest.mark.parametrize(
    "value",
    [
        None,
        "live",
        [],
        1.5,
        {},
        {"live": None},
        {"operator": "**", "left": 1, "right": 2},
        {"operator": ["+"], "left": 1, "right": 2},
        {"operator": "+", "left": 1},
        {"module": "a", "name": "b"},
        {"module": "a", "name": "b", "index": [], "value": 1},
        {"module": "a", "name": "b", "index": None, "value": None},
    ],
)
def test_malformed_json_is_refused(value: object) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        equation.from_json(value)


def test_what_occurs_in_an_expression() -> None:
    expression = Operation("//", Operation("+", HEADS, Count(2)), Operation("*", STEPS, Count(0)))
    assert equation.attributes(expression) == {HEADS, STEPS}
    assert equation.counts(expression) == {0, 2}
    assert equation.attributes(Constant(1)) == equation.counts(Constant(1)) == set()


def test_an_attribute_prints_as_in_code() -> None:
    assert [str(a) for a in (HEADS, STEPS)] == ["attn.heads", "n[1]"]

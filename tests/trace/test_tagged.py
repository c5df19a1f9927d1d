from __future__ import annotations

import copy
import math
import operator
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from secateur.trace.tagged import Tagged, expression_of, tag_attributes
from secateur.trace.tape import Tape
from secateur.types.equation import (
    Attribute,
    Constant,
    Count,
    Expression,
    Operation,
    evaluate,
)

INTS = st.integers(-20, 20)
SIZES = st.integers(1, 12)


def tagged(value: int, tape: Tape | None = None, name: str = "a") -> Tagged:
    return Tagged(value, Attribute("m", name, None, value), tape or Tape([]))


KEEPING: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
}
NUMBERS: dict[str, Callable[[Any, Any], Any]] = {
    "/": operator.truediv,
    "**": lambda a, b: a ** abs(b),
    "<<": lambda a, b: a << abs(b),
    ">>": lambda a, b: a >> abs(b),
    "&": operator.and_,
    "|": operator.or_,
    "^": operator.xor,
    "times a float": lambda a, b: a * (float(b) / 3),
    "plus a float": lambda a, b: a + float(b) / 3,
    "minus a float": lambda a, b: a - float(b) / 3,
    "floor of a float": lambda a, b: a // (abs(b) + 0.5),
    "remainder of a float": lambda a, b: a % (abs(b) + 0.5),
    "divided by": lambda a, b: b / a if a else 0.0,
    "power of": lambda a, b: float(b) ** (a if a > 0 else 1),
    "sqrt": lambda a, b: math.sqrt(abs(a)),
    "float": lambda a, b: float(a),
    "abs": lambda a, b: abs(a),
    "pow with a modulus": lambda a, b: pow(a, abs(b), 7),
    "numpy sqrt": lambda a, b: np.sqrt(a * a),
    "numpy float": lambda a, b: np.float32(2) * a,
    "numpy int": lambda a, b: a * np.int64(3),
}


def outcome(function: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
    try:
        value = function(a, b)
    except ZeroDivisionError:
        return ZeroDivisionError
    return value


@pytest.mark.parametrize("name", KEEPING)
@given(INTS, INTS)
def test_arithmetic_is_that_of_ints_and_is_remembered(name: str, a: int, b: int) -> None:
    function = KEEPING[name]
    tape = Tape([])
    one, other = tagged(a, tape), tagged(b, tape, "b")
    expected = outcome(function, a, b)
    for left, right in ((one, b), (a, other), (one, other)):
        found = outcome(function, left, right)
        if expected is ZeroDivisionError:
            assert found is ZeroDivisionError
            continue
        assert type(found) is Tagged
        assert int(found) == expected
        assert isinstance(found.expression, Operation)
        assert found.expression.operator == name
        assert evaluate(found.expression, {one.expression: a, other.expression: b}, {}) == expected
    assert not tape.numbers
    assert not tape.sizes


@pytest.mark.parametrize("name", NUMBERS)
@given(INTS, INTS)
def test_numbers_are_those_of_ints_and_are_noted(name: str, a: int, b: int) -> None:
    function = NUMBERS[name]
    tape = Tape([])
    expected, found = outcome(function, a, b), outcome(function, tagged(a, tape), b)

    assert type(found) is not Tagged
    assert found == expected or (
        expected is not ZeroDivisionError and math.isclose(found, expected)
    )
    # Only what is computed from a 0 may have gone another way.
    assert tape.numbers or a == 0 or tape.sizes


@st.composite
def programs(draw: st.DrawFn) -> Callable[[Any, Any], Any]:
    """A formula of two sizes and literals, as models have them."""
    steps = draw(
        st.lists(
            st.tuples(st.sampled_from(sorted(KEEPING)), st.integers(0, 9), st.integers(0, 9)),
            min_size=1,
            max_size=5,
        )
    )
    literals = draw(st.lists(st.integers(-3, 9), min_size=2, max_size=2))
    unary = draw(st.booleans())

    def program(x: Any, y: Any) -> Any:
        values = [x, y, *literals]
        for name, i, j in steps:
            values.append(KEEPING[name](values[i % len(values)], values[j % len(values)]))
        return -values[-1] if unary else values[-1]

    return program


@settings(max_examples=150)
@given(programs(), SIZES, SIZES, SIZES, SIZES)
def test_an_expression_gives_what_the_code_would(
    program: Callable[[Any, Any], Any], x: int, y: int, later_x: int, later_y: int
) -> None:
    """Run once with the dense sizes, the expression tells what the code computes for any others."""
    tape = Tape([])
    a, b = tagged(x, tape, "x"), Tagged(y, Count(0), tape)
    try:
        made, later = program(a, b), program(later_x, later_y)
    except ZeroDivisionError:
        assume(False)
    expression = expression_of(made, tape)

    assert int(made) == program(x, y)
    assert evaluate(expression, {a.expression: later_x}, {0: later_y}) == later


def test_quotient_and_remainder_at_once() -> None:
    quotient, rest = divmod(tagged(17), 5)

    assert (int(quotient), int(rest)) == (3, 2)
    assert quotient.expression == Operation("//", Attribute("m", "a", None, 17), Constant(5))
    assert rest.expression == Operation("%", Attribute("m", "a", None, 17), Constant(5))


COMPARE = (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge)


@given(st.sampled_from(COMPARE), INTS, st.one_of(INTS, st.floats(-20, 20)))
def test_comparisons_are_those_of_ints_and_are_noted(
    compare: Callable[[Any, Any], bool], a: int, b: float
) -> None:
    tape = Tape([])

    assert compare(tagged(a, tape), b) is compare(a, b)
    # it keeps its value; an extent is never below zero, so a flag of -1 is counted from there
    noted: Expression = Attribute("m", "a", None, a)
    if a < 0:
        noted = Operation("-", noted, Constant(a))
    assert [size.expression for size in tape.sizes] == [noted]
    assert [tape.extents[size.extent] for size in tape.sizes] == [(max(a, 0), [])]

    assert compare(b, tagged(a, tape)) is compare(b, a)
    assert len(tape.sizes) == 2 or isinstance(b, float)  # a float answers by itself


@given(st.sampled_from(COMPARE), SIZES, SIZES)
def test_two_equal_sizes_stay_equal_and_others_stay(
    compare: Callable[[Any, Any], bool], a: int, b: int
) -> None:
    tape = Tape([])
    tape.extents.append((b, []))
    one, count = tagged(a, tape), Tagged(b, Count(0), tape)

    assert compare(one, count) is compare(a, b)
    if compare in (operator.eq, operator.ne) and a == b:
        (size,) = tape.sizes
        assert (size.expression, size.extent) == (one.expression, 0)
    else:
        assert {size.expression for size in tape.sizes} == {one.expression, count.expression}


def test_a_comparison_with_something_else_says_nothing() -> None:
    tape = Tape([])
    one = tagged(3, tape)

    assert one != "3"
    assert one is not None
    assert one != (3,)
    assert not tape.sizes


def test_another_run_is_a_literal() -> None:
    old, tape = tagged(3), Tape([])
    made = tagged(4, tape) + old

    assert made.expression == Operation("+", Attribute("m", "a", None, 4), Constant(3))
    assert expression_of(old, tape) == Constant(3)


@pytest.mark.parametrize("a", [0, 1, 7])
def test_only_what_was_computed_can_become_nothing(a: int) -> None:
    tape = Tape([])

    assert bool(tagged(a, tape)) is bool(a)
    assert not tape.sizes
    assert bool(tagged(8, tape) % 4) is False
    assert len(tape.sizes) == 1


@given(INTS)
def test_it_is_an_int_to_everybody_else(a: int) -> None:
    one = tagged(a)

    assert isinstance(one, int)
    assert hash(one) == hash(a)
    assert f"{one} {one:+d} {one!r}" == f"{a} {a:+d} {a!r}"
    assert {a: "found"}[one] == "found"
    assert (*range(5),)[: abs(a)] == (*range(5),)[: abs(one)]
    assert (int(+one), int(-one), ~one) == (a, -a, ~a)
    assert pickle.loads(pickle.dumps([one])) == [a]
    assert type(pickle.loads(pickle.dumps(one))) is int
    assert copy.deepcopy(one) is one
    assert copy.deepcopy([one])[0] is one
    assert torch.Size([abs(a), 2]) == torch.Size([abs(one), 2])
    assert torch.zeros(2).new_full((abs(one) % 5, 1), 3.0).shape == (abs(a) % 5, 1)


def test_it_survives_in_a_size() -> None:
    one = tagged(3)

    assert torch.Size([2, one])[1] is one


def test_truth_values_are_no_ints() -> None:
    """`size + True` is arithmetic of another kind: it is a literal then."""
    assert type(tagged(3) + True) is int
    assert tagged(3) + True == 4


class Attributes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.width, self.flag, self.ratio, self.name = 8, True, 0.5, "x"
        self.shape, self.sizes, self.mixed = (2, 3), [4, 5], (1, "y", None)
        self.size = torch.Size([6, 7])
        self.nested, self.table = [(1, 2)], {"a": 3}
        self._hidden = 9
        self.inner = nn.Linear(2, 3)


def test_int_attributes_are_tagged() -> None:
    model, tape = Attributes(), Tape([])
    tag_attributes(model, tape)

    def of(value: Any) -> Attribute:
        assert type(value) is Tagged
        assert value.tape is tape
        return value.expression

    assert of(model.width) == Attribute("", "width", None, 8)
    assert [of(v) for v in model.shape] == [Attribute("", "shape", i, 2 + i) for i in range(2)]
    assert [of(v) for v in model.sizes] == [Attribute("", "sizes", i, 4 + i) for i in range(2)]
    assert [of(v) for v in model.size] == [Attribute("", "size", i, 6 + i) for i in range(2)]
    assert of(model.mixed[0]) == Attribute("", "mixed", 0, 1)
    assert of(model.inner.out_features) == Attribute("inner", "out_features", None, 3)
    assert (type(model.shape), type(model.sizes), type(model.size)) == (tuple, list, torch.Size)
    assert model.size.numel() == 42


def test_other_attributes_are_left_alone() -> None:
    model = Attributes()
    tag_attributes(model, Tape([]))

    assert model.flag is True
    assert (model.ratio, model.name, model.mixed[1:]) == (0.5, "x", ("y", None))
    assert type(model.nested[0][0]) is type(model.table["a"]) is type(model._hidden) is int
    assert model.training is True

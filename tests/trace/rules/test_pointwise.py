from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from secateur.trace.rules.pointwise import is_pointwise, rule_for
from secateur.trace.rules.table import RULES
from tests.trace.alone import alone, labels
from tests.trace.law import assert_exact, between, example, free

FEW = settings(max_examples=40)

ONE = {
    f.__name__: f
    for f in (
        torch.relu, torch.sigmoid, torch.tanh, torch.exp, torch.sin, torch.cos, torch.abs, torch.neg,
        torch.square, torch.expm1, torch.erf, torch.sign, torch.floor, torch.ceil, torch.round,
        torch.trunc, torch.frac, torch.atan, torch.log1p, torch.logit, torch.log, torch.rsqrt,
        torch.sqrt, torch.reciprocal, torch.isnan, torch.logical_not, torch.nan_to_num, torch.sinc,
        F.gelu, F.silu, F.elu, F.selu, F.celu, F.mish, F.softplus, F.hardswish, F.hardsigmoid,
        F.hardtanh, F.relu6, F.leaky_relu, F.logsigmoid, F.softsign, F.tanhshrink,
    )
}  # fmt: skip
ONE |= {
    "hardshrink": lambda x: F.hardshrink(x, 1.5),
    "softshrink": lambda x: F.softshrink(x, 1.5),
    "threshold": lambda x: F.threshold(x, 1.5, 0.0),
    "clamp": lambda x: x.clamp(-1.0, 2.0),
    "clamp above": lambda x: x.clamp(min=0.5),
    "pow": lambda x: x**2,
    "pow 0": lambda x: x**0,
    "inverse": lambda x: x**-1,
    "base": lambda x: 2.0**x,
    "add": lambda x: x + 3,
    "mul": lambda x: x * 3,
    "mul 0": lambda x: x * 0,
    "rsub": lambda x: 1 - x,
    "div": lambda x: x / 3,
    "rdiv": lambda x: 3 / x,
    "gt": lambda x: (x > 1.5).double(),
    "eq": lambda x: (x == 0).double(),
    "remainder": lambda x: x % 2,
    "floor_divide": lambda x: x // 2,
    "masked_fill": lambda x: x.masked_fill(x > 0.3, 2.0),
}
TWO: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "atan2": torch.atan2,
    "hypot": torch.hypot,
    "logaddexp": torch.logaddexp,
    "fmod": torch.fmod,
    "copysign": torch.copysign,
    "gt": lambda a, b: (a > b).double(),
    "lerp": lambda a, b: torch.lerp(a, b, 0.25),
    "addcmul": lambda a, b: torch.addcmul(a, a, b, value=0.5),
    "addcdiv": lambda a, b: torch.addcdiv(a, b, a.abs() + 1),
    "where": lambda a, b: torch.where(a > 0, a, b),
    "where 0": lambda a, b: torch.where(b > 0, a, 0.0),
    "where 1": lambda a, b: torch.where(b > 0, a, 1.0),
    "masked_fill": lambda a, b: a.masked_fill(b > 0, 0.0),
    "xlogy": torch.xlogy,
    "pow": lambda a, b: a.abs().pow(b.abs()),
    "prelu": lambda a, b: torch.where(a > 0, a, a * b),
}


def broadcasts(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Two shapes and what they broadcast to."""
    out = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple))
    shapes = []
    for _ in range(2):
        own = tuple(1 if draw(st.booleans()) else size for size in out)
        shapes.append(own[draw(st.integers(0, len(own) - 1)) :])
    whole = torch.broadcast_shapes(*shapes)
    return shapes[0], shapes[1], tuple(whole)


@pytest.mark.parametrize("in_place", [False, True])
@FEW
@given(st.composite(broadcasts)())
def test_what_meets_becomes_one(
    in_place: bool, shapes: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
) -> None:
    left, right, out = shapes
    if in_place and left != out:
        return
    ran = alone(torch.Tensor.add_ if in_place else torch.add, left, right)
    own = [(1,) * (len(out) - len(s)) + s for s in (left, right)]
    expected: list[set[int]] = [set() for _ in range(ran.out.numel())]
    for d, size in enumerate(out):
        columns = []
        for i, shape in enumerate((left, right)):
            at = d - (len(out) - len(shape))
            if own[i][d] > 1:
                columns.append(ran.classes(i, at))
                assert not any(ran.pinned(i, at))
        assert len(set(map(tuple, columns))) <= 1  # index by index the same class
        if columns:
            assert len(set(columns[0])) == size
            for element, at in zip(expected, itertools.product(*map(range, out)), strict=True):
                element.add(columns[0][at[d]])
    assert labels(ran, ran.out) == [frozenset(element) for element in expected]


def test_what_meets_data_stays() -> None:
    """A whole dim of plain numbers cannot lose an index; a dim of size 1 need not."""
    data = torch.randn(3, 4, dtype=torch.float64)
    ran = alone(lambda x, y: x * data + y, (3, 4), (3, 1))

    assert all(ran.pinned(0, 0) + ran.pinned(0, 1) + ran.pinned(1, 0))

    broadcast = alone(lambda x: x * data[:1, :1] + 2.0, (3, 4))

    assert broadcast.untouched()


ANYTHING = torch.cat([torch.linspace(-50, 50, 40), torch.linspace(-2, 2, 40)]).double()


@pytest.mark.parametrize("name", ONE)
def test_a_zero_that_is_promised_is_one(name: str) -> None:
    """`zero` on a field says: where the channel is masked, the tensor is 0."""
    function = ONE[name]
    ran = alone(function, (5,))
    at_zero = function(torch.zeros(4, dtype=torch.float64))
    if not bool(at_zero.isfinite().all()):
        assert all(ran.pinned(0, 0))  # 0 times infinity is no number: no mask could follow
        return
    assert not any(ran.pinned(0, 0))
    (field,) = ran.tape.labels(ran.out).fields

    assert field.zero == bool((at_zero == 0).all())


@pytest.mark.parametrize("name", ONE)
def test_nothing_is_promised_where_dead_channels_are_not_zero(name: str) -> None:
    """Dead channels may hold any number there; 0 times it is all that can be relied on."""
    function = ONE[name]
    ran = alone(lambda x: function(torch.cosh(x) + 9), (5,))
    for field in ran.tape.labels(ran.out).fields:
        if field.zero:
            assert not function(ANYTHING).any()


@pytest.mark.parametrize("name", TWO)
@pytest.mark.parametrize("first_is_zero", [True, False])
def test_a_zero_of_two_that_is_promised_is_one(name: str, first_is_zero: bool) -> None:
    """One side is 0 where it is dead, the other anything, before they meet."""
    function = TWO[name]

    def both(x: Tensor, y: Tensor) -> Tensor:
        x, y = (x, y.cosh()) if first_is_zero else (x.cosh(), y)
        return function(x, y)

    ran = alone(both, (5,), (5,))
    zeros = [field.zero for field in ran.tape.labels(ran.out).fields]
    dead = torch.zeros_like(ANYTHING)
    found = function(dead, ANYTHING) if first_is_zero else function(ANYTHING, dead)
    if any(zeros):
        assert not found.any()


SAFE = sorted(
    set(ONE) - {"log", "logit", "rsqrt", "reciprocal", "sqrt", "log1p", "inverse", "rdiv"}
)


def test_two_numbers_are_not_taken_to_be_equal() -> None:
    """Neither side is 0 where it is dead, so neither is the difference."""
    ran = alone(lambda x, y: x.cosh() - y.cosh(), (5,), (5,))

    assert [field.zero for field in ran.tape.labels(ran.out).fields] == [False]


@settings(max_examples=60)
@given(st.sampled_from(SAFE), st.sampled_from(SAFE), st.booleans())
def test_a_network_loses_units_exactly(first: str, second: str, shifted: bool) -> None:
    one, other = ONE[first], ONE[second]
    model = between(
        lambda n, x: one(x).double() + other(x).double() * 0.5, 5, (2,), shifted=shifted
    )

    assert free(assert_exact(model, example(model, 2)), "writer.weight:0") == 5


@settings(max_examples=80)
@given(st.sampled_from(SAFE), st.sampled_from(sorted(TWO)), st.sampled_from(SAFE), st.booleans())
def test_a_sum_is_exact_or_declared(first: str, both: str, second: str, shifted: bool) -> None:
    """Nothing masks the sum: what is promised to be zero must be."""
    one, join, other = ONE[first], TWO[both], ONE[second]
    model = between(
        lambda n, x: join(one(x).double(), other(x).double() + 0.7).double().nan_to_num(),
        5,
        (2,),
        shifted=shifted,
        gain=False,
    )
    assert_exact(model, example(model, 2), declared=True)


@settings(max_examples=40)
@given(st.sampled_from(sorted(set(TWO) - {"div", "addcdiv", "xlogy", "fmod"})), st.booleans())
def test_two_branches_lose_the_same_units(name: str, shifted: bool) -> None:
    layers = {"other": torch.nn.Conv1d(3, 5, 1), "side": torch.nn.Conv1d(5, 5, 1)}
    model = between(
        lambda n, x: TWO[name](x, n.layers["side"](x.cos())).double(),
        5,
        (2,),
        layers=layers,
        shifted=shifted,
    )
    groups = assert_exact(model, example(model, 2))

    assert free(groups, "writer.weight:0") == 5
    assert free(groups, "layers.side.weight:0") == 5
    assert free(groups, "layers.side.weight:1") == 5


@pytest.mark.parametrize(
    "change",
    [
        lambda y, x: y.add_(x),
        lambda y, x: y.mul_(x),
        lambda y, x: y.copy_(x),
        lambda y, x: y.relu_(),
        lambda y, x: y.clamp_(0, 1),
        lambda y, x: y.zero_(),
        lambda y, x: y.fill_(2.0),
        lambda y, x: y.masked_fill_(x > 0, 0.5),
        lambda y, x: y.addcmul_(x, x),
        lambda y, x: F.hardswish(y, inplace=True),
        lambda y, x: y.sub_(x).exp_(),
    ],
)
@pytest.mark.parametrize("shifted", [False, True])
def test_in_place(change: Callable[[Tensor, Tensor], Any], shifted: bool) -> None:
    def function(n: Any, x: Tensor) -> Tensor:
        y = x.sin() + 0.1
        change(y, x)
        return y

    model = between(function, 5, (2,), shifted=shifted)

    assert free(assert_exact(model, example(model, 2)), "writer.weight:0") == 5


def test_writes_through_a_view_hold_what_they_touch() -> None:
    def function(n: Any, x: Tensor) -> Tensor:
        y = torch.zeros_like(x)
        y[:, 1:] += x[:, :-1]
        return y

    model = between(function, 5, (2,))

    assert free(assert_exact(model, example(model, 2)), "writer.weight:0") == 0


def test_like_tensors_have_the_labels_of_what_they_are_like() -> None:
    def function(n: Any, x: Tensor) -> Tensor:
        return x * torch.ones_like(x) + torch.zeros_like(x) + torch.full_like(x, 0.5)

    model = between(function, 5, (2,))

    assert free(assert_exact(model, example(model, 2)), "writer.weight:0") == 5


@pytest.mark.parametrize(
    "noise",
    [
        torch.rand_like,
        torch.randn_like,
        lambda x: torch.randn(x.shape[1], 1).double(),
        lambda x: torch.rand(x.shape).double(),
    ],
)
def test_numbers_drawn_for_each_channel_are_declared(noise: Callable[[Tensor], Tensor]) -> None:
    """With fewer channels, other numbers are drawn for those that are left."""
    model = between(lambda n, x: x * noise(x), 5, (2,))
    groups = assert_exact(model, example(model, 2), declared=True)

    assert free(groups, "writer.weight:0") == 5
    assert [place.operator[:4] for place in groups.groups[0].declared] == ["rand"]


def test_the_tag_of_torch_decides() -> None:
    assert is_pointwise("sinh")
    assert is_pointwise("hardswish")  # only some of its overloads have the tag
    assert not is_pointwise("mm")
    assert not is_pointwise("there_is_no_such_operator")
    assert rule_for("mm") is RULES["mm"]
    assert rule_for("there_is_no_such_operator") is None

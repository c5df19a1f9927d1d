from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from secateur.trace.run import LabelMode, _plain_kernels
from secateur.trace.sizes import LISTENERS, SizeMode, listen
from secateur.trace.tagged import Tagged
from secateur.trace.tape import Tape
from secateur.types.equation import Attribute, Count, Expression, evaluate
from tests.trace.law import assert_exact, between, example, free


class Heard:
    """A function run on parameters w0, w1, ... with all modes on; `size(name, v)` makes an attribute."""

    def __init__(self, function: Callable[..., Any], *shapes: tuple[int, ...]) -> None:
        self.inputs = [torch.randn(*shape, dtype=torch.float64) for shape in shapes]
        self.tape = Tape((f"w{i}", t) for i, t in enumerate(self.inputs))
        for tensor in self.inputs:
            self.tape.labels(tensor)
        with (
            _plain_kernels(nn.Identity()),
            torch.no_grad(),
            SizeMode(self.tape),
            LabelMode(self.tape),
        ):
            self.out = function(self, *self.inputs)

    def size(self, name: str, value: int) -> Tagged:
        return Tagged(value, Attribute("m", name, None, value), self.tape)

    def held(self, position: int, dim: int) -> list[bool]:
        """Which indices of a dim of an input may not leave."""
        block = next(b for b in self.tape.blocks if (b.name, b.dim) == (f"w{position}", dim))
        ids = torch.arange(block.start, block.start + block.size).numpy()
        return self.tape.classes.immortal(ids).tolist()

    def equations(self) -> set[tuple[Expression, int, bool]]:
        """(expression, size of what it must equal, whether that can change)."""
        found = set()
        for size in self.tape.sizes:
            count, ids = self.tape.extents[size.extent]
            found.add((size.expression, count, bool(ids)))
        return found


def A(name: str, value: int) -> Attribute:  # noqa: N802
    return Attribute("m", name, None, value)


# ---- listeners that take the sizes of their result ------------------------------------------

SIZED: dict[str, Callable[[Heard, Tensor, Any, Any], Tensor]] = {
    # name: (x of shape (4, 6), a size for 4, a size for 6) -> a tensor of shape (4, 6)
    "view": lambda h, x, a, b: x.view(a, b),
    "view of a list": lambda h, x, a, b: x.view([a, b]),
    "view of a tuple": lambda h, x, a, b: x.view((a, b)),
    "view by keyword": lambda h, x, a, b: x.view(size=(a, b)),
    "view of a size": lambda h, x, a, b: x.view(torch.Size([a, b])),
    "reshape": lambda h, x, a, b: x.reshape(a, b),
    "torch.reshape": lambda h, x, a, b: torch.reshape(x, (a, b)),
    "reshape by keyword": lambda h, x, a, b: torch.reshape(x, shape=(a, b)),
    "expand": lambda h, x, a, b: x.expand(a, b),
    "expand ahead": lambda h, x, a, b: x.expand(3, a, b)[0],
    "broadcast_to": lambda h, x, a, b: torch.broadcast_to(x, (a, b)),
    "unflatten": lambda h, x, a, b: x.flatten().unflatten(0, (a, b)),
    "torch.unflatten": lambda h, x, a, b: torch.unflatten(x.flatten(), 0, (a, b)),
    "zeros": lambda h, x, a, b: x + torch.zeros(a, b),
    "ones of a list": lambda h, x, a, b: x + torch.ones([a, b]),
    "rand by keyword": lambda h, x, a, b: x + torch.rand(size=(a, b)),
    "empty": lambda h, x, a, b: x + torch.empty(a, b).zero_(),
    "full": lambda h, x, a, b: x + torch.full((a, b), 2.0),
    "full by keyword": lambda h, x, a, b: x + torch.full(size=(a, b), fill_value=2.0),
    "new_zeros": lambda h, x, a, b: x + x.new_zeros(a, b),
    "new_ones of a tuple": lambda h, x, a, b: x + x.new_ones((a, b)),
    "new_full": lambda h, x, a, b: x + x.new_full((a, b), 2.0),
    "layer_norm": lambda h, x, a, b: F.layer_norm(F.layer_norm(x, (b,)).t(), [a]).t(),
    "rms_norm": lambda h, x, a, b: F.rms_norm(F.rms_norm(x, (b,)).t(), [a]).t(),
    "split": lambda h, x, a, b: torch.cat([x, x, x]).split(a)[1].repeat(1, 2).split(b, 1)[0],
}  # fmt: skip
IN_PARTS = {"split"}


@pytest.mark.parametrize("name", SIZED)
def test_a_size_that_is_an_attribute_becomes_an_equation(name: str) -> None:
    def function(h: Heard, x: Tensor) -> Tensor:
        return SIZED[name](h, x, h.size("a", 4), h.size("b", 6))

    h = Heard(function, (4, 6))

    assert h.out.shape == (4, 6)
    assert {(A("a", 4), 4, True), (A("b", 6), 6, True)} <= h.equations()
    assert not h.tape.numbers
    if name not in IN_PARTS:
        assert not any(h.held(0, 0) + h.held(0, 1))


@pytest.mark.parametrize("name", SIZED)
def test_a_size_that_comes_from_a_tensor_follows(name: str) -> None:
    def function(h: Heard, x: Tensor) -> Tensor:
        return SIZED[name](h, x, x.shape[0], x.size(1))

    h = Heard(function, (4, 6))
    kinds = {type(expression) for expression, _, _ in h.equations()}

    assert kinds <= {Count}
    assert not h.tape.numbers
    if name not in IN_PARTS:
        assert not any(h.held(0, 0) + h.held(0, 1))


@pytest.mark.parametrize("name", SIZED)
def test_a_literal_size_holds_the_dim(name: str) -> None:
    h = Heard(lambda h, x: SIZED[name](h, x, 4, 6), (4, 6))

    assert all(h.held(0, 0) + h.held(0, 1))
    assert not h.equations()


@pytest.mark.parametrize("name", ["view", "reshape", "expand", "unflatten"])
def test_minus_one_says_nothing(name: str) -> None:
    h = Heard(lambda h, x: SIZED[name](h, x, -1, 6), (4, 6))

    assert h.held(0, 0) == [False] * 4
    assert all(h.held(0, 1))


@settings(max_examples=40)
@given(st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_a_product_and_a_quotient_are_replayed(a: int, b: int, merged: bool) -> None:
    """`x.view(n, a * b)` and `x.view(n, c // b, b)`, as heads and widths are written."""

    def function(h: Heard, x: Tensor) -> Tensor:
        heads = h.size("heads", b)
        if merged:
            return x.unflatten(1, (-1, heads)).reshape(3, x.shape[1] // heads * heads)
        return x.view(3, x.shape[1] // heads, heads)

    h = Heard(function, (3, a * b))
    for size in h.tape.sizes:
        count, _ = h.tape.extents[size.extent]
        live = {i: n for i, (n, _) in enumerate(h.tape.extents)}
        assert evaluate(size.expression, {A("heads", b): b}, live) == count


def test_the_shape_of_another() -> None:
    h = Heard(lambda h, x, y: x.view_as(y) + y, (12,), (3, 4))

    assert {type(expression) for expression, _, _ in h.equations()} == {Count}

    plain = torch.zeros(3, 4)
    h = Heard(lambda h, x: x.view_as(plain), (3, 4))

    assert all(h.held(0, 0) + h.held(0, 1))


# ---- parts ----------------------------------------------------------------------------------


def test_how_often_is_no_size() -> None:
    """`repeat(2, 1)`: the result is twice as large, whatever it was."""
    h = Heard(lambda h, x: x.repeat(2, 1), (4, 6))

    assert not any(h.held(0, 0) + h.held(0, 1))
    assert not h.equations()

    h = Heard(lambda h, x: x.repeat(1, h.size("a", 2)), (4, 6))
    ((expression, size, _),) = h.equations()

    assert size == 12
    assert evaluate(expression, {A("a", 2): 2}, {0: 6}) == 12
    assert evaluate(expression, {A("a", 2): 2}, {0: 5}) == 10

    h = Heard(lambda h, x: x.repeat(h.size("a", 3), 1, 1), (4, 6))

    assert {(size, can) for _, size, can in h.equations()} == {(3, False)}


@pytest.mark.parametrize("start", [None, 0, 2])
@pytest.mark.parametrize("stop", [None, 4, 6])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_bounds_count_what_lies_before_them(start: int | None, stop: int | None, dim: int) -> None:
    shape = (6, 6, 6)

    def function(h: Heard, x: Tensor) -> Tensor:
        low = None if start is None else h.size("low", start)
        high = None if stop is None else h.size("high", stop)
        index: list[Any] = [slice(None)] * 3
        index[dim] = slice(low, high)
        return x[..., low:high] if dim == -1 else x[tuple(index)]

    h = Heard(function, shape)
    expected = set()
    if start:
        expected.add((A("low", start), start, True))
    if stop and stop < 6:
        expected.add((A("high", stop), stop, True))

    assert h.equations() == expected
    assert not any(h.held(0, dim % 3))


def test_one_index_by_an_attribute() -> None:
    h = Heard(lambda h, x: x[:, h.size("a", 1) :], (3, 6))

    assert h.equations() == {(A("a", 1), 1, True)}


@pytest.mark.parametrize(("low", "high"), [(-2, None), (None, -2), (-4, -1), (-6, None)])
def test_negative_bounds_count_what_lies_behind_them(low: int | None, high: int | None) -> None:
    def function(h: Heard, x: Tensor) -> Tensor:
        a = None if low is None else -h.size("low", -low)
        b = None if high is None else -h.size("high", -high)
        return x[:, a:b]

    h = Heard(function, (3, 6))
    found = {evaluate(e, {A("low", -(low or 0)): -(low or 0), A("high", -(high or 0)): -(high or 0)}, {}): n
             for e, n, _ in h.equations()}  # fmt: skip

    assert found == {-b: -b for b in (low, high) if b is not None and b > -6}
    assert not any(h.held(0, 1))


def test_literal_bounds_hold_what_they_count() -> None:
    assert Heard(lambda h, x: x[:, :2], (3, 6)).held(0, 1) == [True] * 2 + [False] * 4
    assert Heard(lambda h, x: x[:, 2:], (3, 6)).held(0, 1) == [True] * 2 + [False] * 4
    assert Heard(lambda h, x: x[:, 1:], (3, 6)).held(0, 1) == [True] + [False] * 5
    assert Heard(lambda h, x: x[:, :-1], (3, 6)).held(0, 1) == [False] * 5 + [True]
    assert Heard(lambda h, x: x.split([1, 5], 1)[1], (3, 6)).held(0, 1) == [True] * 6
    assert Heard(lambda h, x: x[:, -2:], (3, 6)).held(0, 1) == [False] * 4 + [True] * 2
    assert Heard(lambda h, x: x[:, 1:5], (3, 6)).held(0, 1) == [True] * 5 + [False]
    assert Heard(lambda h, x: x.narrow(1, 1, 2), (3, 6)).held(0, 1) == [True] * 3 + [False] * 3
    assert not any(Heard(lambda h, x: x[:, :], (3, 6)).held(0, 1))
    assert not any(Heard(lambda h, x: x[:, :9], (3, 6)).held(0, 1))


@pytest.mark.parametrize(
    "index",
    [
        (Ellipsis, slice(2, None)),
        (None, slice(None), slice(2, None)),
        (slice(None), slice(2, None), None),
        (0, slice(2, None)),
        (torch.tensor([0, 2]), slice(2, None)),
        (torch.tensor([True, False, True]), slice(2, None)),
    ],
    ids=["ellipsis", "new dim", "new dim behind", "number", "indices", "mask"],
)
def test_bounds_find_their_dim_among_other_indices(index: tuple[Any, ...]) -> None:
    h = Heard(lambda h, x: x[index], (3, 6))

    assert h.held(0, 1) == [True] * 2 + [False] * 4


def test_parts_by_attributes() -> None:
    h = Heard(lambda h, x: x.split([h.size("a", 2), h.size("b", 4)], 1), (3, 6))

    assert h.equations() == {(A("a", 2), 2, True), (A("b", 4), 4, True)}
    assert not any(h.held(0, 1))

    h = Heard(lambda h, x: x.split_with_sizes([h.size("a", 2), 4], dim=-1), (3, 6))

    assert h.held(0, 1) == [False] * 2 + [True] * 4

    h = Heard(lambda h, x: torch.split(x, [2, x.shape[1] - 2], dim=1), (3, 6))

    assert h.held(0, 1) == [True] * 2 + [False] * 4
    ((expression, size, can),) = h.equations()
    assert (size, can, evaluate(expression, {}, {0: 5, 1: 5})) == (4, True, 3)


def test_narrow_asks_for_all_that_it_takes() -> None:
    h = Heard(lambda h, x: x.narrow(1, h.size("a", 2), h.size("b", 3)), (3, 6))
    known = {A("a", 2): 2, A("b", 3): 3}

    assert {(evaluate(e, known, {}), n) for e, n, _ in h.equations()} == {(2, 2), (5, 5)}
    assert not any(h.held(0, 1))

    whole = Heard(lambda h, x: x.narrow(1, 0, 6), (3, 6))

    assert all(whole.held(0, 1))  # a slice up to 6 would take what is left

    follows = Heard(lambda h, x: x.narrow(1, 0, x.shape[1]), (3, 6))

    assert not any(follows.held(0, 1))


def test_chunks_follow_by_themselves() -> None:
    h = Heard(lambda h, x: x.chunk(3, 1), (3, 6))

    assert not any(h.held(0, 1))
    assert not h.equations()


@pytest.mark.parametrize("transposed", [False, True])
def test_the_groups_of_a_convolution(transposed: bool) -> None:
    def function(h: Heard, x: Tensor, w: Tensor) -> Tensor:
        groups = h.size("g", 3)
        if transposed:
            return F.conv_transpose2d(x, w, None, 1, 0, 0, groups)
        return F.conv2d(x, w, groups=groups)

    h = Heard(function, (2, 6, 4, 4), (6, 2, 1, 1))

    assert (A("g", 3), 3, True) in h.equations()

    literal = Heard(lambda h, x, w: F.conv1d(x, w, groups=3), (2, 6, 4), (6, 2, 1))

    assert not any(literal.held(0, 1))  # positions inside the groups may go, but no group
    assert not literal.equations()


def test_the_groups_of_a_norm() -> None:
    h = Heard(lambda h, x: F.group_norm(x, h.size("g", 3)), (2, 6, 4))

    assert (A("g", 3), 3, True) in h.equations()

    h = Heard(lambda h, x: F.group_norm(x, num_groups=h.size("g", 3)), (2, 6, 4))

    assert (A("g", 3), 3, True) in h.equations()


@pytest.mark.parametrize("scale", [None, 0.5])
def test_attention_scales_by_the_width(scale: float | None) -> None:
    h = Heard(
        lambda h, q, k, v: F.scaled_dot_product_attention(q, k, v, scale=scale), *[(2, 3, 4)] * 3
    )
    declared = [s for s in h.tape.statistics if s.reason.operator == "scaled_dot_product_attention"]

    assert bool(declared) == (scale is None)
    assert all(s.sets.shape[1] == 4 for s in declared)


class Packed(nn.MultiheadAttention):
    """What a subclass does beside is not known, so its code runs as it is."""


@pytest.mark.parametrize("kind", [nn.MultiheadAttention, Packed])
def test_packed_attention_is_written_out_unless_it_is_somebodys_own(kind: type) -> None:
    layer = kind(6, 2, batch_first=True).double()
    model = between(lambda n, x: n.layers["a"](x, x, x)[0], 6, layers={"a": layer})
    groups = assert_exact(model, example(model))
    held = {fixed.operator for fixed in groups.fixed if fixed.name == "writer.weight"}

    assert held == ({"multi_head_attention_forward"} if kind is Packed else set())
    assert free(groups, "layers.a.in_proj_weight:0") == (0 if kind is Packed else 2)
    assert type(layer) is kind


# ---- sizes that are read --------------------------------------------------------------------


def test_sizes_of_labelled_dims_are_tagged() -> None:
    def function(h: Heard, x: Tensor) -> list[Any]:
        data = torch.zeros(5, 7)
        return [
            x.shape[1], x.size(1), x.size(-1), x.size(dim=1), x.size()[1], x.shape[-1],
            x.shape[1:][0], x.numel(), torch.numel(x), x.t().shape[0], (x + 1).shape[1],
            data.shape[1], data.size(0), data.numel(), x.dim(), x.ndim,
        ]  # fmt: skip

    found = Heard(function, (4, 6)).out

    assert [int(v) for v in found] == [6] * 7 + [24, 24, 6, 6, 7, 5, 35, 2, 2]
    assert [type(v) is Tagged for v in found] == [True] * 11 + [False] * 5
    assert all(isinstance(v.expression, Count) for v in found[:7])
    assert evaluate(found[7].expression, {}, {e: 10 * e + 1 for e in range(9)}) is not None


def test_a_shape_is_a_shape() -> None:
    def function(h: Heard, x: Tensor) -> Any:
        b, c = x.shape
        return x.shape, b, c, len(x.shape), x.shape == (4, 6), x.shape[:1] + x.shape[1:]

    shape, b, c, rank, same, joined = Heard(function, (4, 6)).out

    assert isinstance(shape, torch.Size)
    assert (int(b), int(c), rank, same, joined) == (4, 6, 2, True, (4, 6))


def test_sizes_in_operators_nobody_listens_to_are_numbers() -> None:
    h = Heard(lambda h, x: x * x.shape[1] + torch.arange(3).sum(), (4, 6))

    (number,) = h.tape.numbers
    assert isinstance(number.expression, Count)
    assert number.reason.why == "a size is an argument of mul"

    for sqrt in (math.sqrt, np.sqrt, lambda c: c**0.5, lambda c: c * 0.3):
        h = Heard(lambda h, x, f=sqrt: x / float(f(x.shape[1])), (4, 6))
        (number,) = h.tape.numbers
        assert isinstance(number.expression, Count)


def test_nothing_is_left_behind() -> None:
    h = Heard(lambda h, x: F.conv1d(x, x[:, :, :1], groups=1), (2, 2, 4))

    assert (h.tape.function, h.tape.expected) == (None, {})

    def fails(h: Heard, x: Tensor) -> None:
        try:
            x.view(7, 7)
        except RuntimeError:
            h.after = (h.tape.function, h.tape.expected)  # type: ignore[attr-defined]

    assert Heard(fails, (4, 6)).after == (None, {})  # type: ignore[attr-defined]


def test_two_listeners_for_one_function_are_a_fault() -> None:
    before = dict(LISTENERS)
    with pytest.raises(ValueError, match="two listeners for view"):
        listen("view")(lambda said: None)

    assert before == LISTENERS


# ---- the same in networks -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "units"),
    [
        (lambda n, x: x.view(x.shape[0], x.shape[1] // n.sizes[0], n.sizes[0]).sum(2), 3),
        (lambda n, x: x.view(-1, n.sizes[0], x.shape[1] // n.sizes[0]).cumsum(2), 2),
        (lambda n, x: x[:, 1:] * 2, 5),
        (lambda n, x: x[:, n.sizes[0] :] * 2, 5),  # one must stay of those that are read
        (lambda n, x: torch.cat([x[:, : n.sizes[0]], x[:, n.sizes[0] :].sin()], 1), 6),
        (lambda n, x: torch.cat(x.tensor_split((n.sizes[0],), 1)[::-1], 1), 4),
        (lambda n, x: x / x.shape[0] ** 0.5, 6),
        (lambda n, x: x + x.new_zeros(x.size(1)), 6),
    ],
)
@pytest.mark.parametrize("shifted", [False, True])
def test_networks_whose_code_computes_sizes(
    function: Callable[..., Tensor], units: int, shifted: bool
) -> None:
    model = between(function, 6, sizes=(2,), shifted=shifted)

    assert free(assert_exact(model, example(model)), "writer.weight:0") == units


def test_a_width_that_divides_is_declared() -> None:
    model = between(lambda n, x: x / math.sqrt(x.shape[1]), 6)
    groups = assert_exact(model, example(model), declared=True)

    assert free(groups, "writer.weight:0") == 6
    assert {place.operator for place in groups.groups[0].declared} == {"size"}


def test_a_branch_on_the_width_holds_it() -> None:
    model = between(lambda n, x: x.sin() if x.shape[1] > 4 else x.cos(), 6)
    groups = assert_exact(model, example(model))

    assert not groups.groups
    assert {f.operator for f in groups.fixed if f.name == "writer.weight"} == {"comparison"}


def test_a_loop_over_the_width_cannot_be_heard() -> None:
    """`range` asks for plain numbers: the trial of `sec.groups` is there for this."""
    model = between(lambda n, x: x * sum(i for i in range(x.shape[1])), 6)

    with pytest.raises(AssertionError):
        assert_exact(model, example(model))

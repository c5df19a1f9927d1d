from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from secateur.errors import ModelError
from secateur.types.outputs import (
    distance,
    given_tensors,
    largest,
    output_tensors,
    run_in_double,
)

NAN, INF = float("nan"), float("inf")
NUMBERS = st.sampled_from([0.0, 1.0, -2.5, INF, -INF, NAN])


def numbers(*values: float) -> list[Tensor]:
    return [torch.tensor(values, dtype=torch.float64)]


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=5))
def test_the_distance_is_that_of_the_farthest_element(pairs: list[tuple[float, float]]) -> None:
    worst = 0.0
    for a, b in pairs:
        if a == b or (math.isnan(a) and math.isnan(b)):
            continue
        gap = abs(a - b)
        worst = max(worst, INF if math.isnan(gap) else gap)
    left, right = zip(*pairs, strict=True)

    assert distance(numbers(*left), numbers(*right)) == worst
    assert distance(numbers(*right), numbers(*left)) == worst


def test_the_distance_over_several_outputs() -> None:
    assert distance(numbers(1, 2) + numbers(5), numbers(1, 2.5) + numbers(2)) == 3
    assert distance([], []) == 0
    assert distance([torch.zeros(0)], [torch.zeros(0)]) == 0
    assert distance([torch.tensor([1 + 1j])], [torch.tensor([1 - 1j])]) == 2


@given(st.lists(NUMBERS, max_size=5))
def test_the_largest_element_that_is_a_number(values: list[float]) -> None:
    finite = [abs(v) for v in values if math.isfinite(v)]

    assert largest(numbers(*values)) == max(finite, default=0.0)


def test_the_largest_of_several_outputs() -> None:
    assert largest([torch.zeros(0), *numbers(-3, INF), *numbers(2)]) == 3
    assert largest([]) == 0
    assert largest([torch.tensor([3 + 4j])]) == 5


class Draws(nn.Module):
    """Draws numbers, and writes into its input."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x += 1
        return {"a": x + torch.rand(3), "b": torch.complex(x, x), "c": x.long()}


def test_outputs_are_drawn_alike_in_double_and_leave_the_input() -> None:
    x = torch.zeros(3)
    state = torch.get_rng_state()
    first, second = run_in_double(Draws(), x), run_in_double(Draws(), (x,))

    assert [t.dtype for t in first] == [torch.float64, torch.complex128, torch.float64]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not x.any()
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(t.requires_grad for t in first)


class Slotted:
    __slots__ = ("__weakref__", "inner", "unset")

    def __init__(self, inner: object) -> None:
        self.inner = inner


def test_tensors_are_found_however_deep() -> None:
    a, b, c, d = (torch.full((1,), float(i)) for i in range(4))
    circle: list[object] = [d]
    circle.append(circle)
    found = output_tensors(
        {"x": (a, [b]), "y": Slotted({"z": c}), "n": 3, "w": "text", "c": circle}
    )

    assert [int(t) for t in found] == [0, 1, 2, 3]
    assert output_tensors(None) == []
    assert output_tensors(nn.Linear(1, 1)) == []


def test_an_iterator_would_be_used_up() -> None:
    with pytest.raises(ModelError, match="iterator"):
        output_tensors([t for t in [torch.zeros(1)] if False] + [iter([torch.zeros(1)])])


class Pair(NamedTuple):
    left: Tensor
    right: list[Tensor]


def test_tensors_are_found_in_order_however_deep_they_lie() -> None:
    a, b, c = (torch.tensor(float(i)) for i in range(3))
    for out, found in [
        (a, [a]),
        ((a, b), [a, b]),
        ((a, a), [a, a]),
        ((), []),
        ((a, None, [b, (c,)]), [a, b, c]),
        (Pair(a, [b, c]), [a, b, c]),
        ({"x": b, "y": (a, 1)}, [b, a]),
    ]:
        seen = output_tensors(out)
        assert len(seen) == len(found)
        assert all(left is right for left, right in zip(seen, found, strict=True))


def test_what_a_call_is_given_by_position_comes_first() -> None:
    a, b, c, d = numbers(1, 2) + numbers(3) + numbers(4, 5) + numbers(6)
    found = given_tensors((a, [b, 7]), {"c": {"inside": c}, "names": iter("xy"), "d": d})
    assert [tensor.tolist() for tensor in found] == [[1, 2], [3], [4, 5], [6]]
    assert given_tensors((), {}) == []
    with pytest.raises(ModelError, match="iterator"):
        given_tensors((iter([a]),), {})

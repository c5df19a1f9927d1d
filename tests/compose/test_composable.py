from __future__ import annotations

import copy
import math
import operator
import pickle
from collections.abc import Callable, Sequence
from dataclasses import FrozenInstanceError, fields
from fractions import Fraction

import numpy as np
import pytest
import torch

from secateur.compose import (
    AsIs,
    BestOf,
    Blend,
    Composable,
    Composed,
    MaxAbs,
    MinMax,
    Product,
    Rank,
    Scope,
    Veto,
)
from secateur.errors import OptionError
from secateur.saliency import Magnitude, Saliency
from tests.compose.drawn import A, B, C, Leaf


@pytest.mark.parametrize(
    ("made", "parts", "weights"),
    [
        (2 * A, (A,), (2.0,)),
        (A * 2, (A,), (2.0,)),
        (A / 4, (A,), (0.25,)),
        (-A, (A,), (-1.0,)),
        (A + B, (A, B), (1.0, 1.0)),
        (A - B, (A, B), (1.0, -1.0)),
        (A - 0.5 * B, (A, B), (1.0, -0.5)),
        (0.3 * A + 0.7 * B, (A, B), (0.3, 0.7)),
        (0.0 * A + 1.0 * B, (A, B), (0.0, 1.0)),
        (A + B + C, (A, B, C), (1.0, 1.0, 1.0)),
        (A + (B + C), (A, B, C), (1.0, 1.0, 1.0)),
        (A - (B - C), (A, B, C), (1.0, -1.0, 1.0)),
        (0.5 * (A + 3 * B), (A, B), (0.5, 1.5)),
        ((A + B) / 2 + C, (A, B, C), (0.5, 0.5, 1.0)),
        (A + A, (A, A), (1.0, 1.0)),  # as written: equal parts are not drawn together
        (2 * (3 * A), (A,), (6.0,)),
        (sum([A, B, C]), (A, B, C), (1.0, 1.0, 1.0)),
        (np.float64(0.5) * A, (A,), (0.5,)),
        (A * np.float32(0.5), (A,), (0.5,)),
        (Fraction(1, 2) * A, (A,), (0.5,)),
    ],
    ids=str,
)
def test_sums_and_weights_make_one_blend(
    made: Blend, parts: tuple[Leaf, ...], weights: tuple[float, ...]
) -> None:
    assert made == Blend(parts, weights)
    assert all(type(weight) is float for weight in made.weights)
    assert made.normalisation == MinMax(Scope.GROUP)


def test_sum_of_one_is_itself() -> None:
    assert sum([A]) == A


def test_products() -> None:
    assert Product(A, B) == A * B
    assert A * B * C == A * (B * C) == Product(A, B, C)
    assert (A * B).normalised(Rank()) * C == Product(Product(A, B, normalisation=Rank()), C)
    assert Product(A, 0.3 * B + 0.7 * C) == A * (0.3 * B + 0.7 * C)


def test_the_weight_of_a_factor_is_not_lost() -> None:
    """A product normalises its factors; Python reads 0.3 * a * b as (0.3 * a) * b."""
    assert 0.3 * A * B == A * (0.3 * B) == 0.3 * (A * B) == Blend((Product(A, B),), (0.3,))
    assert Blend((Product(A, B), C), (0.3, 0.7)) == 0.3 * A * B + 0.7 * C
    assert Blend((Product(A, B, C),), (3.0,)) == (2 * A) * (3 * B) * (0.5 * C)
    assert -A * B == -(A * B)
    assert Blend((Product(A, B),), (0.0,)) == 0.0 * A * B
    assert Blend((Product(0.25 * A + 0.75 * B, C),), (4.0,)) == (A + 3 * B) * C
    nearly = 0.5 * A + (0.5 + 1e-12) * B  # as 0.1 + 0.2 + 0.7 may be
    assert nearly * C == Product(nearly, C)
    ranked = (2 * A).normalised(Rank())
    assert ranked * B == 2 * Product((1 * A).normalised(Rank()), B)
    nothing = 0 * A + 0 * B
    assert nothing * C == Product(nothing, C)


def test_a_normalisation_belongs_to_the_whole_blend() -> None:
    rank = Rank(Scope.NETWORK)
    ranked = (0.3 * A + 0.7 * B).normalised(rank)
    assert ranked == Blend((A, B), (0.3, 0.7), rank)
    assert 2 * ranked == Blend((A, B), (0.6, 1.4), rank)
    assert ranked + (1 * C).normalised(rank) == Blend((A, B, C), (0.3, 0.7, 1.0), rank)
    assert Blend((ranked, C), (1, 1)).parts == (ranked, C)


@pytest.mark.parametrize("other", [C, 0.5 * C, (1 * C).normalised(MaxAbs())])
def test_what_is_normalised_differently_does_not_add(other: Composable) -> None:
    ranked = (A + B).normalised(Rank())
    for add in (operator.add, operator.sub):
        with pytest.raises(OptionError, match="one is normalised rank per group, the other m") as e:
            add(ranked, other)
        assert "at the end" in e.value.hint


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (0.3 * A + 0.7 * B, "0.3 * a + 0.7 * b, each min-max per group"),
        (A + B, "a + b, each min-max per group"),
        (A - 0.5 * B, "a - 0.5 * b, each min-max per group"),
        (-A + B, "-a + b, each min-max per group"),
        (-0.0 * A + B, "0 * a + b, each min-max per group"),
        (2 * A, "2 * a, min-max per group"),
        ((1 - 0.9) * A + 0.9 * B, "0.1 * a + 0.9 * b, each min-max per group"),
        (A * B, "a * b, each max-abs per group"),
        (
            (0.3 * A + 0.7 * B).normalised(Rank(Scope.NETWORK)) * C,
            "(0.3 * a + 0.7 * b, each rank over the network) * c, each max-abs per group",
        ),
        (
            0.3 * A * B + 0.7 * C,
            "0.3 * (a * b, each max-abs per group) + 0.7 * c, each min-max per group",
        ),
        ((A + B).normalised(AsIs()), "a + b, each as it is"),
        (BestOf(A, A * B), "best of a, (a * b, each max-abs per group), each min-max per group"),
        (Veto(A, by=B, share=0.1), "a, with a veto of b for its top 10 % per group"),
    ],
)
def test_the_formula_is_printed(made: Composed, text: str) -> None:
    assert str(made) == text


def test_a_real_saliency_prints_its_options() -> None:
    assert str(0.3 * Magnitude(1) + 0.7 * Magnitude()) == (
        "0.3 * Magnitude(p=1) + 0.7 * Magnitude(p=2), each min-max per group"
    )
    assert isinstance(Magnitude(), Saliency)


def test_names_are_lower_case_class_names() -> None:
    made = [A, A + B, A * B, BestOf(A, B), Veto(A, B, 0.1)]
    assert [one.name for one in made] == ["leaf", "blend", "product", "bestof", "veto"]


@pytest.mark.parametrize("made", [0.3 * A + B, A * B, BestOf(A, B), Veto(A, B, 0.1)], ids=str)
def test_they_are_values(made: Composed) -> None:
    for other in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert other == made
        assert hash(other) == hash(made)
        assert str(other) == str(made)
    assert not hasattr(made, "__dict__")
    with pytest.raises(FrozenInstanceError):
        setattr(made, fields(made)[0].name, None)


def test_lists_are_taken_over() -> None:
    parts, weights = [A, B], [1, 2]
    made = Blend(parts, weights)  # type: ignore[arg-type]
    parts.append(C)  # type: ignore[arg-type]
    weights.append(3)
    assert made == Blend((A, B), (1.0, 2.0))


@pytest.mark.parametrize(
    "weight", [math.nan, math.inf, -math.inf, 10**400, np.float32(math.inf)], ids=repr
)
def test_a_weight_is_finite(weight: float) -> None:
    for make in (lambda: weight * A, lambda: A * weight, lambda: Blend((A,), (weight,))):
        with pytest.raises(OptionError, match="is no weight"):
            make()


@pytest.mark.parametrize("divisor", [0, 0.0, math.nan, math.inf, 1e-320, 10**400])
def test_a_divisor_leaves_a_finite_weight(divisor: float) -> None:
    with pytest.raises(OptionError, match="is no weight"):
        A / divisor


def test_a_weight_that_grows_out_of_bounds_is_refused() -> None:
    with pytest.raises(OptionError, match="inf is no weight"):
        1e200 * (1e200 * A)


@pytest.mark.parametrize("number", [1, 0.5, -1, np.float64(2.0), True])
def test_a_number_is_no_summand(number: float) -> None:
    for add in (lambda: A + number, lambda: number + A, lambda: A - number):
        with pytest.raises(OptionError, match="cannot be added to a saliency") as caught:
            add()
        assert "0.3 * Magnitude()" in caught.value.hint


@pytest.mark.parametrize(
    "other", ["a", None, [A], Leaf, 1j, torch.tensor(0.5), np.ones(2)], ids=str
)
@pytest.mark.parametrize("act", [operator.add, operator.sub, operator.mul, operator.truediv])
def test_python_refuses_other_operands(act: Callable[..., object], other: object) -> None:
    for left, right in ((A, other), (other, A)):
        with pytest.raises(TypeError):
            act(left, right)


@pytest.mark.parametrize("act", [operator.pow, operator.truediv, operator.matmul])
def test_what_has_no_meaning_is_not_there(act: Callable[..., object]) -> None:
    with pytest.raises(TypeError):
        act(A, B)


MAKERS: list[Callable[..., Composed]] = [
    lambda *parts: Blend(parts, (1,) * len(parts)),
    Product,
    BestOf,
    lambda *parts: Veto(*parts, share=0.1),
]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(
    ("wrong", "hint"), [(3, "Magnitude()"), ("a", "a"), (None, "Magnitude()"), (Leaf, "Leaf()")]
)
def test_a_part_is_a_saliency(make: Callable[..., Composed], wrong: object, hint: str) -> None:
    for parts in ((A, wrong), (wrong, A)):
        with pytest.raises(OptionError) as caught:
            make(*parts)
        assert hint in caught.value.hint
        assert caught.value.where in ("Blend", "Product", "BestOf", "Veto")


@pytest.mark.parametrize("make", [Product, BestOf])
def test_a_choice_needs_two(make: Callable[..., Composed]) -> None:
    for parts in ((), (A,)):
        with pytest.raises(OptionError, match=f"needs 2 parts or more, and has {len(parts)}"):
            make(*parts)
    with pytest.raises(OptionError, match="no saliency") as caught:
        make([A, B])
    assert "one by one" in caught.value.hint


@pytest.mark.parametrize(
    ("parts", "weights", "message"),
    [
        ((), (), "needs 1 part or more"),
        ((A,), (), "1 parts have 0 weights"),
        ((A, B), (1,), "2 parts have 1 weights"),
        ((A, B), 1.0, "2 parts have 1 weights"),
        ((A, B), ("1", 2), "'1' is no weight"),
        ((A, B), (None, 2), "None is no weight"),
    ],
)
def test_parts_and_weights_go_together(
    parts: Sequence[Leaf], weights: Sequence[float], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        Blend(parts, weights)  # type: ignore[arg-type]


@pytest.mark.parametrize(("wrong", "hint"), [(Rank, "Rank() makes one"), ("rank", "Rank()")])
def test_a_normalisation_is_a_value(wrong: object, hint: str) -> None:
    for whole in (A + B, A * B, BestOf(A, B)):
        with pytest.raises(OptionError, match="is no normalisation") as caught:
            whole.normalised(wrong)  # type: ignore[arg-type]
        assert hint in caught.value.hint
        assert caught.value.where == type(whole).__name__

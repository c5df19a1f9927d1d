from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from secateur.compose import AsIs, MaxAbs, MinMax, Normalisation, Rank, Scope, Share
from secateur.errors import ScoreError
from tests.compose.drawn import FLOATS, POSITIVE, TIES, Row, flat, mapped, ranks, row, rows, sizes

KINDS: list[type[Normalisation]] = [MinMax, MaxAbs, Rank, Share]
ANY = FLOATS | TIES


def values_for(kind: type[Normalisation]) -> st.SearchStrategy[float]:
    return ANY if kind.signed else POSITIVE


def twin(kind: type[Normalisation], values: list[float]) -> list[float]:
    """The slow twin: one number at a time, from the definitions."""
    low, high, largest, total = min(values), max(values), max(map(abs, values)), math.fsum(values)
    match kind.__name__:
        case "MinMax":
            return [(x - low) / (high - low) if high > low else 0.0 for x in values]
        case "MaxAbs":
            return [x / largest if largest else 0.0 for x in values]
        case "Share":
            return [x / total if total else 0.0 for x in values]
        case _:
            below = [sum(other < x for other in values) for x in values]
            return [r / (len(values) - 1) if len(values) > 1 else 0.0 for r in below]


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_it_is_what_its_definition_says(
    kind: type[Normalisation], scope: Scope, data: st.DataObject
) -> None:
    (scores,) = data.draw(rows(1, values_for(kind)))
    found = kind(scope)(scores)
    assert all(values.dtype == torch.float64 for values in found.values())
    if scope is Scope.GROUP:
        expected = [x for values in scores.values() for x in twin(kind, values.tolist())]
    else:
        expected = twin(kind, flat(scores).tolist())
    assert {group: len(values) for group, values in found.items()} == {
        group: len(values) for group, values in scores.items()
    }
    assert flat(found).tolist() == pytest.approx(expected, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data(), scale=st.integers(-20, 20).map(lambda k: 2.0**k))
def test_the_scale_of_a_saliency_does_not_matter(
    kind: type[Normalisation], scale: float, data: st.DataObject
) -> None:
    near = st.integers(-999, 999) if kind.signed else st.integers(0, 999)
    (scores,) = data.draw(rows(1, near.map(float)))
    scope = data.draw(st.sampled_from(Scope))
    other = kind(scope)(mapped(scores, lambda x: x * scale))
    assert torch.equal(flat(other), flat(kind(scope)(scores)))


@given(rows(1, st.integers(-9, 9).map(float)), st.sampled_from(Scope), st.integers(-99, 99))
def test_where_zero_lies_does_not_matter_to_min_max(
    scores: list[Row], scope: Scope, by: int
) -> None:
    moved = mapped(scores[0], lambda x: x + by)
    assert torch.equal(flat(MinMax(scope)(moved)), flat(MinMax(scope)(scores[0])))


@pytest.mark.parametrize(
    "rising",
    [lambda x: x**3, lambda x: x.exp(), lambda x: 5 * x - 7, lambda x: x * (1 + (x > 2) * 1e30)],
)
@given(scores=rows(1, st.integers(-9, 9).map(float)), scope=st.sampled_from(Scope))
def test_only_the_order_matters_to_rank(rising: object, scores: list[Row], scope: Scope) -> None:
    changed = mapped(scores[0], rising)  # type: ignore[arg-type]
    assert torch.equal(flat(Rank(scope)(changed)), flat(Rank(scope)(scores[0])))


@pytest.mark.parametrize("kind", [*KINDS, AsIs])
@given(data=st.data())
def test_no_two_units_change_places(kind: type[Normalisation], data: st.DataObject) -> None:
    (scores,) = data.draw(rows(1, values_for(kind)))
    found = kind(Scope.NETWORK)(scores)
    before, after = flat(scores), flat(found)
    order = before.argsort(stable=True)
    assert bool((after[order].diff() >= 0).all())
    for value in before.unique():
        assert len(after[before == value].unique()) == 1


@pytest.mark.parametrize("kind", [*KINDS, AsIs])
@given(data=st.data())
def test_permuted_units_have_permuted_scores(
    kind: type[Normalisation], data: st.DataObject
) -> None:
    (scores,) = data.draw(rows(1, values_for(kind)))
    scope = data.draw(st.sampled_from(Scope))
    turned = {
        group: torch.tensor(data.draw(st.permutations(range(len(values)))))
        for group, values in scores.items()
    }
    shuffled = kind(scope)({group: scores[group][order] for group, order in turned.items()})
    plain = kind(scope)(scores)
    for group, order in turned.items():
        torch.testing.assert_close(shuffled[group], plain[group][order], rtol=1e-12, atol=0.0)


@given(rows(1, ANY), rows(1, ANY))
def test_a_group_does_not_see_the_others(one: list[Row], other: list[Row]) -> None:
    both = one[0] | {f"other {group}": values for group, values in other[0].items()}
    for kind in (MinMax, MaxAbs, Rank):
        alone, found = kind()(one[0]), kind()(both)
        assert all(torch.equal(found[group], alone[group]) for group in alone)


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [0.0, 1e-45, 7.0, 3e38])
def test_equal_scores_say_nothing(kind: type[Normalisation], scope: Scope, value: float) -> None:
    scores = {"g": torch.full((3,), value), "h": torch.full((1,), value)}
    found = flat(kind(scope)(scores))
    assert bool(torch.isfinite(found).all())
    if kind in (MinMax, Rank) or value == 0.0:
        assert found.tolist() == [0.0] * 4


@given(st.data())
def test_ends(data: st.DataObject) -> None:
    units = data.draw(sizes())
    signed = data.draw(row(units, ANY))
    positive = data.draw(row(units, POSITIVE))
    for group in signed:
        if len(signed[group].unique()) > 1:
            low, high = MinMax()(signed)[group].aminmax()
            assert (float(low), float(high)) == (0.0, 1.0)
        if bool(signed[group].any()):
            assert float(MaxAbs()(signed)[group].abs().max()) == 1.0
        if bool(positive[group].any()):
            assert float(Share()(positive)[group].sum()) == pytest.approx(1.0)
        assert float(Rank()(signed)[group].min()) == 0.0


def test_zero_signs_and_ratios_stay_under_max_abs() -> None:
    assert MaxAbs()({"g": torch.tensor([-4.0, 0.0, 2.0])})["g"].tolist() == [-1.0, 0.0, 0.5]


def test_equal_ranks_are_the_number_of_lower_scores() -> None:
    found = Rank()({"g": torch.tensor([3.0, 1.0, 1.0, 3.0, 9.0])})["g"]
    assert found.tolist() == [0.5, 0.0, 0.0, 0.5, 1.0]
    assert Rank()({"g": torch.tensor([0.0, -0.0])})["g"].tolist() == [0.0, 0.0]


def test_one_group_far_above_another() -> None:
    scores = {"small": torch.tensor([0.0, 1.0]), "large": torch.tensor([0.0, 100.0])}
    assert MinMax(Scope.GROUP)(scores)["small"].tolist() == [0.0, 1.0]
    assert MinMax(Scope.NETWORK)(scores)["small"].tolist() == [0.0, 0.01]


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("kind", [*KINDS, AsIs])
@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(
    kind: type[Normalisation], scope: Scope, wrong: float
) -> None:
    scores = {"g": torch.ones(2), "layer1.conv": torch.tensor([0.0, wrong])}
    with pytest.raises(ScoreError) as caught:
        kind(scope)(scores)
    assert caught.value.where == "layer1.conv"


@pytest.mark.parametrize("scope", Scope)
def test_no_share_is_below_zero(scope: Scope) -> None:
    scores = {"g": torch.ones(2), "h": torch.tensor([-1e-30, 1.0])}
    with pytest.raises(ScoreError, match="below zero") as caught:
        Share(scope)(scores, "Taylor()")
    assert caught.value.where == "Taylor(), h"
    assert "MinMax()" in caught.value.hint


@pytest.mark.parametrize("kind", [*KINDS, AsIs])
@pytest.mark.parametrize("scope", Scope)
def test_no_groups_and_no_units(kind: type[Normalisation], scope: Scope) -> None:
    assert kind(scope)({}) == {}
    assert kind(scope)({"g": torch.zeros(0)})["g"].shape == (0,)


def test_the_scores_given_are_left_alone() -> None:
    scores = {"g": torch.tensor([1.0, 5.0])}
    for kind in (*KINDS, AsIs):
        kind()(scores)["g"].zero_()
    assert scores["g"].tolist() == [1.0, 5.0]


def test_they_print_as_they_are_called() -> None:
    texts = [str(kind(scope)) for kind in (*KINDS, AsIs) for scope in Scope]
    assert texts == [
        "min-max per group",
        "min-max over the network",
        "max-abs per group",
        "max-abs over the network",
        "rank per group",
        "rank over the network",
        "share per group",
        "share over the network",
        "as it is",
        "as it is",
    ]


def test_equal_normalisations_are_equal() -> None:
    assert MinMax() == MinMax(Scope.GROUP) != MinMax(Scope.NETWORK)
    assert MinMax() != Rank()
    assert len({Rank(), Rank(), Rank(Scope.NETWORK)}) == 2


def test_one_of_ones_own() -> None:
    @dataclass(frozen=True, slots=True)
    class Doubled(Normalisation):
        label: ClassVar[str] = "doubled"

        def scale(self, values: Tensor) -> Tensor:
            return 2 * values

    assert Doubled()({"g": torch.tensor([1.5])})["g"].tolist() == [3.0]
    assert str(Doubled(Scope.NETWORK)) == "doubled over the network"


@given(st.lists(FLOATS, min_size=1, max_size=20))
def test_as_it_is(values: list[float]) -> None:
    assert AsIs()({"g": torch.tensor(values, dtype=torch.float32)})["g"].tolist() == values
    assert ranks(torch.tensor(values)) == ranks(AsIs()({"g": torch.tensor(values)})["g"])

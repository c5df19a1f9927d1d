from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.compose import AsIs, Blend, MaxAbs, MinMax, Normalisation, Rank, Scope, Share
from secateur.errors import ScoreError
from tests.compose.drawn import (
    FLOATS,
    NEIGHBOURS,
    POSITIVE,
    TIES,
    A,
    B,
    Leaf,
    Row,
    flat,
    mapped,
    ranks,
    row,
    rows,
    sizes,
)

KINDS: list[type[Normalisation]] = [MinMax, MaxAbs, Rank, Share, AsIs]
ANY = FLOATS | TIES | NEIGHBOURS


def values_for(kind: type[Normalisation]) -> st.SearchStrategy[float]:
    return ANY if kind.signed else POSITIVE | NEIGHBOURS


def twin(weights: list[float], scores: list[Row]) -> Row:
    """The slow twin: min-max per group, one number at a time."""
    blended = {}
    for group, first in scores[0].items():
        sums = [0.0] * len(first)
        for weight, part in zip(weights, scores, strict=True):
            values = part[group].tolist()
            low, high = min(values), max(values)
            for i, x in enumerate(values):
                sums[i] += weight * ((x - low) / (high - low) if high > low else 0.0)
        blended[group] = torch.tensor(sums)
    return blended


@given(rows(3, ANY), st.lists(st.floats(-2.0, 2.0), min_size=3, max_size=3))
def test_it_is_the_weighted_sum_of_min_max(scores: list[Row], weights: list[float]) -> None:
    found = Blend(tuple(map(Leaf, "abc")), tuple(weights)).combine(scores)
    assert all(values.dtype == torch.float32 for values in found.values())
    torch.testing.assert_close(flat(found), flat(twin(weights, scores)), rtol=1e-6, atol=1e-6)


def test_by_hand() -> None:
    first = {"g": torch.tensor([0.0, 5.0, 10.0]), "h": torch.tensor([7.0])}
    second = {"g": torch.tensor([3.0, 1.0, 2.0]), "h": torch.tensor([8.0])}
    found = (0.25 * A + 0.75 * B).combine([first, second])
    assert found["g"].tolist() == [0.75, 0.125, 0.625]
    assert found["h"].tolist() == [0.0]
    wide = (0.25 * A + 0.75 * B).normalised(MaxAbs(Scope.NETWORK)).combine([first, second])
    assert wide["h"].tolist() == pytest.approx([0.25 * 0.7 + 0.75])
    raw = (0.25 * A - B).normalised(AsIs()).combine([first, second])
    assert raw["g"].tolist() == [-3.0, 0.25, 0.5]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scope", Scope)
@given(data=st.data())
def test_at_the_ends_of_delta_the_order_is_that_of_one_part(
    kind: type[Normalisation], scope: Scope, data: st.DataObject
) -> None:
    """Ties included, though the scores are rounded to float32 after the normalisation."""
    scores = data.draw(rows(2, values_for(kind)))
    for delta, part in ((0.0, scores[0]), (1.0, scores[1])):
        found = ((1 - delta) * A + delta * B).normalised(kind(scope)).combine(scores)
        together = scope is Scope.NETWORK
        pairs = [(flat(found), flat(part))] if together else [(found[g], part[g]) for g in part]
        for blended, plain in pairs:
            assert ranks(blended) == ranks(plain)


def test_as_it_is_the_order_is_that_of_the_whole_network() -> None:
    neighbours = 0.875 + torch.arange(40) * 2.0**-24
    scores = {"g": neighbours[::2], "h": neighbours[1::2]}
    found = (0.6 * A).normalised(AsIs()).combine([scores])
    assert ranks(flat(found)) == ranks(flat(scores))


@given(rows(2, ANY), st.floats(1e-3, 1e3))
def test_a_weight_alone_changes_no_order_and_its_sign_turns_it_round(
    scores: list[Row], weight: float
) -> None:
    for group, values in (weight * A).combine(scores[:1]).items():
        assert ranks(values) == ranks(scores[0][group])
    for group, values in (0 * A - weight * B).combine(scores).items():
        assert ranks(-values) == ranks(scores[1][group])


def test_plain_rounding_would_lose_the_order() -> None:
    """What `rounded` is for: of float32 neighbours, min-max and a cast make one number."""
    values = 0.875 + torch.arange(1000) * 2.0**-24
    scores = torch.cat([values, torch.tensor([0.0, 1.75])])
    plain = MinMax()({"g": scores})["g"].float()
    assert len(plain.unique()) < len(scores.unique())
    found = (1.0 * A + 0.0 * B).combine([{"g": scores}, {"g": torch.zeros(1002)}])["g"]
    assert ranks(found) == ranks(scores)


@given(st.data())
def test_permuted_units_have_permuted_scores(data: st.DataObject) -> None:
    scores = data.draw(rows(2, ANY))
    delta = data.draw(st.floats(0.0, 1.0))
    blend = (1 - delta) * A + delta * B
    turned = {
        group: torch.tensor(data.draw(st.permutations(range(len(values)))))
        for group, values in scores[0].items()
    }
    plain = blend.combine(scores)
    shuffled = blend.combine([{g: part[g][turned[g]] for g in part} for part in scores])
    assert all(torch.equal(shuffled[g], plain[g][turned[g]]) for g in plain)


@given(rows(2, st.integers(-99, 99).map(float)), st.floats(0.0, 1.0), st.integers(-9, 9))
def test_one_layers_scale_changes_nothing_per_group(
    scores: list[Row], delta: float, power: int
) -> None:
    """methods.md 1.6, property 3: with the other part held fixed."""
    blend = (1 - delta) * A + delta * B
    plain = blend.combine(scores)
    scaled = scores[0] | {"g0": scores[0]["g0"] * 2.0**power}
    assert torch.equal(flat(blend.combine([scaled, scores[1]])), flat(plain))
    scaled = mapped(scores[1], lambda x: x * 2.0**power)
    assert torch.equal(flat(blend.combine([scores[0], scaled])), flat(plain))


@given(rows(2, ANY))
def test_a_blend_of_blends_is_the_flat_one(scores: list[Row]) -> None:
    nested = 0.5 * (A + 0.5 * B) + 0.25 * A
    flat_one = 0.75 * A + 0.25 * B
    found = nested.combine([scores[0], scores[1], scores[0]])
    torch.testing.assert_close(found, flat_one.combine(scores))


@given(st.data())
def test_parts_may_come_in_float64_and_count_as_they_are_stored(data: st.DataObject) -> None:
    units = data.draw(sizes())
    stored = data.draw(row(units, NEIGHBOURS))
    above = torch.rand(6, dtype=torch.float64) * 2**-30
    finer = mapped(stored, lambda x: x.double() * (1.0 + above[: len(x)]))
    found, expected = (A + B).combine([finer, stored]), (A + B).combine([stored, stored])
    assert torch.equal(flat(found), flat(expected))


def test_a_part_that_is_not_finite_is_named() -> None:
    fine, broken = {"g": torch.ones(2)}, {"g": torch.tensor([1.0, math.nan])}
    with pytest.raises(ScoreError) as caught:
        (A + 0 * B).combine([fine, broken])
    assert caught.value.where == "b, g"


def test_a_part_that_the_normalisation_refuses_is_named() -> None:
    with pytest.raises(ScoreError, match="below zero") as caught:
        (A + B).normalised(Share()).combine([{"g": torch.ones(2)}, {"g": -torch.ones(2)}])
    assert caught.value.where == "b, g"


def test_scores_that_outgrow_float32_are_refused() -> None:
    with pytest.raises(ScoreError, match="beyond float32") as caught:
        (1e300 * A).combine([{"g": torch.tensor([0.0, 1.0])}])
    assert "1e+300 * a" in caught.value.where
    with pytest.raises(ScoreError, match="beyond float32"):
        (1e300 * A + B).combine([{"g": torch.tensor([0.0, 1.0])}] * 2)


def test_no_weight_at_all_says_nothing() -> None:
    scores = {"g": torch.tensor([1.0, 2.0])}
    assert (0 * A + 0 * B).combine([scores, scores])["g"].tolist() == [0.0, 0.0]


def test_no_groups() -> None:
    assert (A + B).combine([{}, {}]) == {}
    assert (A + 0 * B).normalised(Rank(Scope.NETWORK)).combine([{}, {}]) == {}

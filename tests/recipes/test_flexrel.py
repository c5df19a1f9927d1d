from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import secateur as sec
from secateur.compose import MaxAbs, MinMax, Normalisation, Rank, Scope
from secateur.errors import BudgetError, DataError, OptionError
from secateur.measure import accuracy
from secateur.recipes.curves import pruned
from secateur.recipes.flexrel import DELTAS, Flexed, FlexRel, Guidance, flexrel, guidance
from secateur.recipes.recipe import Question
from secateur.saliency.lrp import GradTimesActivation
from secateur.saliency.magnitude import Magnitude
from secateur.saliency.relevance import Relevance
from secateur.types.budget import parse
from tests import handmade

SCOPES = [Scope.GROUP, Scope.NETWORK]
NORMALISATIONS = [MinMax, MaxAbs, Rank]
GRANULARITIES = [sec.Weights(), sec.Kernels(), sec.Channels()]


@pytest.fixture
def net() -> nn.Module:
    return handmade.net().eval()


def found(net: nn.Module, granularity: sec.Granularity | None = None) -> sec.Groups:
    return sec.groups(net, handmade.example(), granularity or sec.Weights())


def signals(net: nn.Module, groups: sec.Groups, how: FlexRel | None = None) -> sec.Scores:
    return sec.score(net, groups, handmade.data(), (how or FlexRel()).signals)


def masks(groups: sec.Groups, mixed: sec.Scores, how: FlexRel, factor: float) -> dict[str, Tensor]:
    return dict(sec.allocate(groups, mixed, how.allocator, pruned(groups, factor)).masks)


def equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.mark.parametrize("granularity", GRANULARITIES, ids=str)
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("norm", NORMALISATIONS)
def test_the_ends_are_magnitude_and_relevance_pruning(
    net: nn.Module, granularity: sec.Granularity, scope: Scope, norm: type[Normalisation]
) -> None:
    how, groups = FlexRel(normalisation=norm(scope)), found(net, granularity)
    gathered = signals(net, groups, how)
    relevance = Relevance(per_position=scope is Scope.NETWORK)
    for delta, name, saliency in ((0.0, "magnitude", Magnitude()), (1.0, "relevance", relevance)):
        alone = sec.score(net, groups, handmade.data(), saliency)
        ranked = sec.Uniform(by=name) if scope is Scope.GROUP else sec.Ranked(by=name)
        for factor in (0.3, 0.6):
            plan = sec.allocate(groups, alone, ranked, pruned(groups, factor))
            ours = masks(groups, how.mixed(gathered, delta), how, factor)
            assert equal(ours, dict(plan.masks))


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("delta", [0.0, 0.3, 1.0])
def test_the_kept_count_is_exact_and_masks_are_nested(
    net: nn.Module, scope: Scope, delta: float
) -> None:
    how, groups = FlexRel(normalisation=MinMax(scope)), found(net)
    mixed = how.mixed(signals(net, groups), delta)
    looser = {group.name: torch.ones(group.size, dtype=torch.bool) for group in groups}
    for factor in (0.1, 0.333, 0.5, 0.77, 0.95, 0.99):
        kept = masks(groups, mixed, how, factor)
        assert sum(int(mask.sum()) for mask in kept.values()) == round((1 - factor) * groups.units)
        assert all(bool((looser[name] | ~mask).all()) for name, mask in kept.items())
        looser = kept


@given(st.sampled_from(["magnitude", "relevance"]), st.integers(-30, 30), st.floats(0.0, 1.0))
def test_per_group_the_scale_of_one_layer_plays_no_part(
    signal: str, power: int, delta: float
) -> None:
    torch.manual_seed(0)
    net = handmade.net().eval()
    how, groups = FlexRel(), found(net)
    plain = signals(net, groups)
    first = next(iter(groups)).name
    table = {name: dict(plain[name]) for name in plain}
    table[signal][first] = table[signal][first] * 2.0**power  # exact: no tie is made or broken
    scaled = sec.Scores(table)
    assert equal(
        masks(groups, how.mixed(plain, delta), how, 0.6),
        masks(groups, how.mixed(scaled, delta), how, 0.6),
    )


def test_scaled_weights_scale_the_magnitude_that_is_gathered(net: nn.Module) -> None:
    groups = found(net)
    before = signals(net, groups)["magnitude"]
    with torch.no_grad():
        net.conv2.weight *= 8
    after = signals(net, groups)["magnitude"]
    assert torch.equal(after["conv2"], 8 * before["conv2"])
    assert torch.equal(after["fc"], before["fc"])


@pytest.mark.parametrize("delta", [0.0, 0.25, 0.7, 1.0])
def test_the_mask_is_that_of_the_definition(net: nn.Module, delta: float) -> None:
    groups = found(net)
    gathered = signals(net, groups)
    how = FlexRel(delta=delta)
    ours = masks(groups, how.mixed(gathered, delta), how, 0.5)
    for group in groups:  # all sizes are even, so that half of each group is a whole number
        m, r = (gathered[name][group.name].double() for name in ("magnitude", "relevance"))
        m, r = ((x - x.min()) / (x.max() - x.min()) for x in (m, r))
        s = ((1 - delta) * m + delta * r).float()
        order = sorted(range(group.size), key=lambda i: (float(s[i]), i))
        expected = torch.ones(group.size, dtype=torch.bool)
        expected[order[: group.size // 2]] = False
        if delta in (0.0, 1.0):
            raw = gathered["magnitude" if delta == 0 else "relevance"][group.name]
            assert float(raw[~ours[group.name]].max()) <= float(raw[ours[group.name]].min())
        else:
            assert torch.equal(ours[group.name], expected)


def test_relevance_of_a_weight_is_a_row_plus_a_column(net: nn.Module) -> None:
    groups = found(net)
    rows = signals(net, groups)["relevance"]["fc"].double().reshape(net.fc.weight.shape)
    mixed = rows[:1, :1] + rows - rows[:1] - rows[:, :1]
    assert float(mixed.abs().max()) <= 1e-5 * float(rows.abs().max())


class Counting:
    """A judge that likes one delta: quality by the order in which it is asked."""

    def __init__(self, values: list[float]) -> None:
        self.values: Iterator[float] = iter(values)
        self.kept: list[int] = []

    def __call__(self, model: nn.Module) -> float:
        self.kept.append(sum(int((p != 0).sum()) for p in model.parameters() if p.dim() > 1))
        return next(self.values)


def test_the_delta_that_held_out_data_like_best_is_taken(net: nn.Module) -> None:
    groups = found(net)
    judge = Counting([0.1, 0.2, 0.9, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3])
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    result = flexrel(net, groups, handmade.data(), "units=0.4", judge)
    assert isinstance(result, Flexed)
    assert result.delta == 0.2
    assert result.guidance is not None
    assert result.guidance.deltas == DELTAS
    assert result.guidance.best == 0.2
    assert set(judge.kept) == {int(0.4 * groups.units)}  # each time the masked network
    assert set(result.scores) == {"magnitude", "relevance", "blend"}
    mixed = FlexRel().mixed(result.scores, 0.2)
    plan = sec.allocate(groups, mixed, sec.Uniform(by="blend"), "units=0.4")
    assert equal(dict(result.plan.masks), dict(plan.masks))
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_accuracy_on_batches_is_the_judge_where_none_is_given(net: nn.Module) -> None:
    groups, data = found(net), handmade.data()
    result = flexrel(net, groups, data, "units=0.5", data, how=FlexRel(deltas=(0.0, 0.5)))
    assert result.guidance is not None
    for delta, quality in zip((0.0, 0.5), result.guidance.quality, strict=True):
        plan = flexrel(net, groups, data, "units=0.5", how=FlexRel(delta=delta)).plan
        with sec.masked(net, plan):
            assert accuracy(net, data).value == quality


def test_a_given_delta_needs_no_held_out_data(net: nn.Module) -> None:
    result = flexrel(net, found(net), handmade.data(), "units=0.5", how=FlexRel(delta=0.0))
    assert result.guidance is None
    assert result.delta == 0.0


@pytest.mark.parametrize("granularity", GRANULARITIES, ids=str)
@pytest.mark.parametrize("scope", SCOPES)
def test_every_granularity_and_rule(
    net: nn.Module, granularity: sec.Granularity, scope: Scope
) -> None:
    how = FlexRel(delta=0.5, rule=GradTimesActivation(), normalisation=Rank(scope))
    groups = found(net, granularity)
    plan = flexrel(net, groups, handmade.data(), "units=0.5", how=how).plan
    assert 0 < plan.removed <= (groups.units + 1) // 2


def test_of_equally_good_deltas_the_middle_one_is_taken() -> None:
    assert Guidance((0.0, 0.25, 0.5, 1.0), (0.5, 0.8, 0.8, 0.8)).best == 0.5
    assert Guidance((0.0, 1.0), (0.5, 0.4)).best == 0.0


def test_guidance_is_plain_json() -> None:
    stored = Guidance((0.0, 1.0), (0.5, 0.4)).to_json()
    assert stored == {"deltas": (0.0, 1.0), "quality": (0.5, 0.4), "best": 0.0}


def test_guidance_tries_each_delta_once_and_restores(net: nn.Module) -> None:
    groups = found(net)
    judge = Counting([0.5, 0.7, 0.6])
    how = FlexRel(deltas=(0.0, 0.5, 1.0))
    curve = guidance(net, groups, signals(net, groups), "units=0.5", judge, how=how)
    assert curve == Guidance((0.0, 0.5, 1.0), (0.5, 0.7, 0.6))


def test_the_blend_prints_its_formula() -> None:
    text = str(FlexRel().blend(0.25))
    assert "0.75 * " in text
    assert "0.25 * " in text
    assert "min-max" in text


def test_without_delta_and_held_out_data_nothing_can_be_chosen(net: nn.Module) -> None:
    with pytest.raises(OptionError, match="held-out") as error:
        flexrel(net, found(net), handmade.data(), "units=0.5")
    assert "FlexRel(delta=" in error.value.hint


@pytest.mark.parametrize("delta", [-0.1, 1.1, float("nan")])
def test_delta_is_a_share(delta: float) -> None:
    with pytest.raises(OptionError, match="between 0 and 1"):
        FlexRel(delta=delta)
    with pytest.raises(OptionError, match="between 0 and 1"):
        FlexRel(deltas=(0.5, delta))


def test_no_delta_at_all_is_refused() -> None:
    with pytest.raises(OptionError, match="between 0 and 1"):
        FlexRel(deltas=())


def test_relevance_needs_data(net: nn.Module) -> None:
    with pytest.raises(DataError):
        flexrel(net, found(net), [], "units=0.5", how=FlexRel(delta=0.5))


def question(net: nn.Module, *budgets: str, batches: tuple[int, ...] = (8, 8, 8, 8)) -> Question:
    asked = tuple(parse(text) for text in budgets)
    return Question(net, found(net), asked, handmade.data(batches), nn.functional.cross_entropy)


def test_asked_as_a_recipe_it_holds_every_second_batch_out(net: nn.Module) -> None:
    asked = question(net, "units=0.5")
    scores, plan = FlexRel().decide(asked)
    data = handmade.data((8, 8, 8, 8))
    alone = flexrel(net, asked.groups, data[::2], "units=0.5", data[1::2])
    assert equal(dict(plan.masks), dict(alone.plan.masks))
    assert next(iter(scores)) == "blend"
    assert alone.guidance is not None
    told = {"name": "flexrel", "delta": alone.delta, "guidance": alone.guidance.to_json()}
    assert plan.about["recipe"] == told


def test_asked_with_a_given_delta_it_looks_at_all_data(net: nn.Module) -> None:
    scores, plan = FlexRel(delta=0.5).decide(question(net, "units=0.5", batches=(8,)))
    assert plan.about["recipe"] == {"name": "flexrel", "delta": 0.5}
    assert set(scores) == {"blend", "magnitude", "relevance"}


def test_asked_without_a_budget_or_enough_data_it_says_what_is_missing(net: nn.Module) -> None:
    with pytest.raises(BudgetError, match="without a budget"):
        FlexRel().decide(question(net))
    with pytest.raises(DataError, match="one batch for relevance and another"):
        FlexRel().decide(question(net, "units=0.5", batches=(8,)))

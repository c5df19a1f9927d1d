from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import secateur as sec
from secateur.compose import MinMax, Scope
from secateur.errors import OptionError
from secateur.measure import accuracy
from secateur.recipes.bandwidth import position_bits
from secateur.recipes.curves import Sweep, pruned, sweep
from secateur.recipes.flexrel import FlexRel, guidance, judge_of
from tests import handmade

FACTORS = (0.3, 0.6, 0.9)
HOW = FlexRel(deltas=(0.0, 0.5, 1.0))


@pytest.fixture
def net() -> nn.Module:
    return handmade.net().eval()


@pytest.fixture
def groups(net: nn.Module) -> sec.Groups:
    return sec.groups(net, handmade.example(), sec.Weights())


@pytest.fixture
def signals(net: nn.Module, groups: sec.Groups) -> sec.Scores:
    return sec.score(net, groups, handmade.data(), HOW.signals)


@pytest.mark.parametrize("scope", [Scope.GROUP, Scope.NETWORK])
def test_every_entry_is_the_accuracy_of_that_masked_network(
    net: nn.Module, groups: sec.Groups, signals: sec.Scores, scope: Scope
) -> None:
    how = FlexRel(normalisation=MinMax(scope), deltas=HOW.deltas)
    held_out, test = handmade.data((8, 8)), handmade.data((9, 9, 9))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    found = sweep(net, groups, signals, FACTORS, held_out, test, how=how)
    assert found.factors == (0.0, *FACTORS)
    assert found.held_out[0] == (accuracy(net, held_out).value,) * 3
    assert found.test[0] == (accuracy(net, test).value,) * 3
    for i, factor in enumerate(FACTORS, start=1):
        budget = pruned(groups, factor)
        guided = guidance(net, groups, signals, budget, judge_of(held_out), how=how)
        assert guided == found.guidance[i]
        for j, delta in enumerate(how.deltas):
            plan = sec.allocate(groups, how.mixed(signals, delta), how.allocator, budget)
            with sec.masked(net, plan):
                assert found.test[i][j] == accuracy(net, test).value
            assert found.positions[i][j] == position_bits(plan.masks)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


SWEEP = Sweep(
    factors=(0.0, 0.5, 0.8),
    deltas=(0.0, 0.5, 1.0),
    held_out=((0.9, 0.9, 0.9), (0.5, 0.8, 0.6), (0.4, 0.3, 0.1)),
    test=((0.9, 0.9, 0.9), (0.6, 0.7, 0.8), (0.5, 0.6, 0.1)),
    positions=((0.0, 0.0, 0.0), (1.0, 0.9, 0.8), (0.7, 0.6, 0.5)),
)


def test_flexrel_takes_at_each_factor_what_held_out_data_chose() -> None:
    assert [found.best for found in SWEEP.guidance] == [0.5, 0.5, 0.0]
    assert SWEEP.flexrel.accuracy == (0.9, 0.7, 0.5)  # not the best of the test
    assert SWEEP.flexrel.positions == (0.0, 0.9, 0.7)


def test_a_fixed_delta_is_one_column() -> None:
    assert SWEEP.at(1.0).accuracy == (0.9, 0.8, 0.1)
    assert SWEEP.at(0.0).factors == (0.0, 0.5, 0.8)
    with pytest.raises(OptionError, match="not tried"):
        SWEEP.at(0.3)


def test_the_sweep_ends_where_nothing_is_left_to_see(
    net: nn.Module, groups: sec.Groups, signals: sec.Scores
) -> None:
    qualities = iter([0.9, *(0.8, 0.1, 0.1), *(0.2, 0.3, 0.1)])
    found = sweep(
        net, groups, signals, FACTORS, lambda _: next(qualities), lambda _: 0.5, how=HOW, least=0.5
    )
    assert found.factors == (0.0, 0.3, 0.6)
    assert len(found.test) == 3


@pytest.mark.parametrize("factor", [0.0, 1.0, -0.5])
def test_a_factor_is_a_share_that_leaves_something(
    net: nn.Module, groups: sec.Groups, signals: sec.Scores, factor: float
) -> None:
    with pytest.raises(OptionError, match="pruning factor"):
        sweep(net, groups, signals, (factor,), handmade.data(), handmade.data(), how=HOW)


def test_a_sweep_is_plain_json() -> None:
    stored = json.loads(json.dumps(SWEEP.to_json()))
    assert stored["test"][1] == [0.6, 0.7, 0.8]

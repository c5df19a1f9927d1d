"""The fast way and its plain twin: the same choices, on every network that can be had."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import secateur as sec
from secateur.compose.candidates import Candidate
from secateur.compose.fast_losses import FastLosses
from secateur.compose.losses import Answer, Question
from secateur.compose.objective import LossPerWeight, LowestLoss, Objective
from secateur.compose.oracle import best
from secateur.compose.plain_losses import PlainLosses
from secateur.compose.pool import Pool
from secateur.compose.race import Race
from secateur.compose.strategy import EarlyStop, Everything, Strategy
from secateur.errors import DataError
from secateur.types import Groups
from secateur.types.call import batch_size
from tests.compose.measured import Compared, at_a_tie, compare, joined
from tests.handmade import Net, channels, inside, net, same_state, state_of
from tests.zoo import more, traps
from tests.zoo.drawn import drawn
from tests.zoo.net import Net as ZooNet

# Groups that only the plain way can measure: units change others outside of any layer, samples of a
# batch are mixed, or no single sample can be taken out of what the network returns.
PLAIN = {
    "sum_over_channels": {"up"},
    "batch_statistics": {"stem", "last"},
    "dataclass_output": {"mid", "up"},
}
# Their inputs cannot be told sample from sample, or have the samples in another dim.
NO_SAMPLES = {"distances", "no_batch", "torch_decoder"}


def check(found: list[Compared], tolerance: float = 1e-9) -> set[str]:
    """Equal choices and equal losses; which groups needed the plain way."""
    for step in found:
        plain, fast = step.choices
        assert plain == fast or at_a_tie(step)
        assert step.fast.present == pytest.approx(step.plain.present, rel=tolerance, abs=tolerance)
        for exact, quick in zip(step.plain.measured, step.fast.measured, strict=True):
            if quick.out:
                assert quick.loss <= exact.loss + tolerance
            else:
                assert quick.loss == pytest.approx(exact.loss, rel=tolerance, abs=tolerance)
    return {name for step in found for name in step.fast.plain}


@pytest.mark.parametrize(
    "case", [n for n in (*traps.NETS, *more.NETS) if n.name not in NO_SAMPLES], ids=str
)
def test_every_network_of_the_zoo_is_measured_alike(case: ZooNet) -> None:
    model, groups = case.model(), sec.groups(case.model(), case.inputs())
    x = joined([case.inputs(seed) for seed in range(6)])
    before = state_of(model)
    found = compare(model, groups, Pool(x, torch.randn(batch_size(x))))
    assert check(found) <= PLAIN.get(case.name, set())
    assert same_state(model, before)


@given(seed=st.integers(0, 10**6), length=st.integers(2, 7))
@settings(max_examples=40)
def test_networks_that_nobody_thought_of_are_measured_alike(seed: int, length: int) -> None:
    case = drawn(seed, length)
    groups = sec.Channels().find(case.model, case.example)
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(12, 3, 4, 4, generator=draw, dtype=torch.float64)
    check(compare(case.model, groups, Pool(x, torch.randn(12, generator=draw))))


def small(dtype: torch.dtype = torch.float64) -> tuple[Net, Groups, Pool]:
    model = net().to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    pool = Pool(torch.randn(40, 3, 4, 4, dtype=dtype), torch.randn(40))
    return model, channels(model), pool


@pytest.mark.parametrize("objective", [LowestLoss(), LossPerWeight()])
@pytest.mark.parametrize("strategy", [Everything(), EarlyStop(), Race()])
@pytest.mark.parametrize("memory", [0, 2**30])
def test_every_strategy_objective_and_memory_chooses_alike(
    strategy: Strategy, objective: Objective, memory: int
) -> None:
    model, groups, pool = small()
    options = {"memory": memory, "steps": 12, "objective": objective}
    assert check(compare(model, groups, pool, strategy, **options)) == set()


def test_in_single_precision_choices_are_equal_too() -> None:
    model, groups, pool = small(torch.float32)
    check(compare(model, groups, pool, steps=12), tolerance=1e-5)


@pytest.mark.parametrize("kind", ["weight", "kernel"])
def test_units_inside_weights_are_measured_alike(kind: str) -> None:
    model, _, pool = small()
    assert check(compare(model, inside(model, kind), pool, steps=4)) == set()


def test_groups_are_proven_once_and_the_answer_says_so() -> None:
    model, groups, pool = small()
    found = compare(model, groups, pool, steps=4, k=99)
    assert [set(step.fast.proven) for step in found] == [{"conv1", "conv2"}, set(), set(), set()]


class Gated(nn.Module):
    """What one channel is changes all others, outside of any module and before any layer reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x).relu()
        out: Tensor = self.down(x * x.sum(1, keepdim=True).tanh())
        return out


def test_a_group_that_is_measured_wrong_falls_back_and_is_told_once() -> None:
    model, x = Gated().double().eval(), torch.randn(24, 6, dtype=torch.float64)
    groups = sec.groups(model, x[:2])
    found = compare(model, groups, Pool(x, torch.randn(24)), steps=4)
    assert check(found) == {"up"}
    assert [step.fast.plain for step in found] == [("up",), (), (), ()]
    assert all(m.samples == 24 and not m.out for step in found for m in step.fast.measured)


def test_a_race_against_groups_that_are_measured_the_plain_way_is_run_to_the_end() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.gated = nn.Linear(6, 6), Gated()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.gated(self.first(x).relu())
            return out

    model, x = Half().double().eval(), torch.randn(200, 6, dtype=torch.float64)
    groups = sec.groups(model, x[:2])
    found = compare(model, groups, Pool(x, torch.randn(200)), Race(), steps=6, k=14)
    assert {name for step in found for name in step.fast.plain} == {"gated.up"}
    for step in found:
        plain, fast = step.choices
        assert plain == fast
        standing = [m for m in step.fast.measured if not m.out]
        assert all(m.samples == 200 for m in standing)


class Changing(nn.Module):
    """Which layers run depends on the samples."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down, self.more = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(self.up(x).relu())
        return self.more(out) if bool(x.sum() > 0) else out


def test_a_network_that_takes_another_way_for_other_samples_is_measured_the_plain_way() -> None:
    model, x = Changing().double().eval(), torch.randn(24, 6, dtype=torch.float64)
    x[:12] += 1.0
    x[12:] -= 1.0
    groups = sec.Channels().find(model, x[:2])
    pool, question = Pool(x, torch.randn(24)), asked(groups, 24)
    plain = PlainLosses(model, groups, pool, _mean_squares, batch=4).measure(question)
    fast = FastLosses(model, groups, pool, _mean_squares, batch=4, piece=4).measure(question)
    assert fast == Answer(plain.present, plain.measured, (), tuple(g.name for g in groups))


def _mean_squares(output: Tensor, y: Tensor) -> Tensor:
    return (output - y[:, None]).square().mean()


def _total(output: Tensor, y: Tensor) -> Tensor:
    return (output - y[:, None]).square().mean(1).sum()


def _largest(output: Tensor, y: Tensor) -> Tensor:
    return (output - y[:, None]).square().mean(1).max()


@pytest.mark.parametrize("loss", [_total, _largest])
def test_a_loss_that_is_no_mean_over_samples_is_measured_the_plain_way(loss: Any) -> None:
    model, groups, pool = small()
    question = asked(groups)
    plain = PlainLosses(model, groups, pool, loss).measure(question)
    fast = FastLosses(model, groups, pool, loss).measure(question)
    assert fast.measured == plain.measured
    assert set(fast.plain) == {"conv1", "conv2"}


def _signed(output: Tensor, y: Tensor) -> Tensor:
    return (output * y[:, None]).mean()


def test_a_loss_that_may_be_negative_gives_equal_choices() -> None:
    model, groups, pool = small()
    question = asked(groups)
    plain = PlainLosses(model, groups, pool, _signed).measure(question)
    fast = FastLosses(model, groups, pool, _signed, piece=4).measure(question)
    assert best(question, plain) == best(question, fast)
    assert not any(m.out for m in fast.measured)


def asked(groups: Groups, samples: int = 40) -> Question:
    masks = {group.name: torch.ones(group.size, dtype=torch.bool) for group in groups}
    candidates = [Candidate(g.name, unit, "m") for g in groups for unit in range(g.size)]
    return Question(masks, candidates, torch.arange(samples), LowestLoss(), [0] * len(candidates))


def test_units_without_any_effect_tie_and_the_first_of_them_goes() -> None:
    model, groups, pool = small(torch.float32)
    with torch.no_grad():
        for unit in (2, 4):  # never above zero before the ReLU
            model.conv2.weight[unit] = 0.0
            model.conv2.bias[unit] = -1.0
            model.bn.weight[unit], model.bn.bias[unit] = 0.0, -1.0
    question = asked(groups)
    plain = PlainLosses(model, groups, pool, _mean_squares).measure(question)
    fast = FastLosses(model, groups, pool, _mean_squares).measure(question)
    assert best(question, plain) == best(question, fast)
    dead = {i for i, m in enumerate(plain.measured) if m.loss == plain.present}
    assert len(dead) >= 4
    assert min(m.loss for m in plain.measured) <= plain.present


def test_the_same_question_gets_the_same_answer() -> None:
    model, groups, pool = small(torch.float32)
    losses = FastLosses(model, groups, pool, _mean_squares)
    first = losses.measure(asked(groups))
    losses.measure(asked(groups, 13))
    assert losses.measure(asked(groups)) == first
    assert FastLosses(model, groups, pool, _mean_squares).measure(asked(groups)) == first


def test_views_that_need_another_layout_still_run_fast() -> None:
    class Viewing(Net):
        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.conv2(F.relu(self.bn(self.conv1(x)))))
            out: Tensor = self.fc(x.view(x.shape[0], -1))
            return out

    with torch.random.fork_rng():
        model = Viewing().double().eval()
    groups = channels(model)
    pool = Pool(torch.randn(24, 3, 4, 4, dtype=torch.float64), torch.randn(24))
    assert check(compare(model, groups, pool)) == set()


@pytest.mark.parametrize("where", ["loss", "data"])
def test_what_cannot_be_measured_is_told_as_the_plain_way_tells_it(where: str) -> None:
    model, groups, pool = small()
    if where == "data":
        pool = Pool(torch.randn(40, 5, 4, 4, dtype=torch.float64), torch.randn(40))

    def loss(output: Tensor, y: Tensor) -> Tensor:
        return output.mean() * float("nan")

    before, told = state_of(model), []
    for losses in (PlainLosses(model, groups, pool, loss), FastLosses(model, groups, pool, loss)):
        with pytest.raises(DataError) as error:
            losses.measure(asked(groups))
        told.append(str(error.value))
    assert told[0] == told[1]
    assert same_state(model, before)


def test_a_network_that_cannot_be_copied_is_measured_the_plain_way() -> None:
    model, groups, pool = small()

    class Sealed(Net):
        def __deepcopy__(self, memo: dict[int, Any]) -> Sealed:
            raise TypeError("sealed")

    model.__class__ = Sealed
    answer = FastLosses(model, groups, pool, _mean_squares).measure(asked(groups))
    assert set(answer.plain) == {"conv1", "conv2"}
    with contextlib.suppress(AttributeError):
        assert answer.measured == PlainLosses(
            model, groups, pool, _mean_squares
        ).measure(asked(groups)).measured  # fmt: skip


def test_it_prints_its_strategy() -> None:
    model, groups, pool = small()
    losses = FastLosses(model, groups, pool, _mean_squares, Race(0.9))
    assert str(losses) == "FastLosses(Race(confidence=0.9, recall=True))"
    assert str(PlainLosses(model, groups, pool, _mean_squares)) == "PlainLosses()"

"""Experts as units: what leaves, what is left, and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import secateur as sec
from secateur.cost import count_macs, count_params, macs, params
from secateur.errors import PlanError, UnknownNameError
from tests import mixtures
from tests.mixtures import ROWS, STACKED, Expert, Sparse

EVERY = [*ROWS, *STACKED, mixtures.Convolutions]


def _example(kind: type[nn.Module], samples: int = 9) -> Tensor:
    own = torch.Generator().manual_seed(samples)
    shape = (samples, 4, 4, 3) if kind is mixtures.Convolutions else (samples, 3)
    return torch.randn(shape, generator=own)


def _name(kind: type[nn.Module], number: int = 0) -> str:
    own = issubclass(kind, mixtures.Stacked)
    return f"mixtures.{number}" if own else f"mixtures.{number}.experts"


def _plan(groups: sec.Groups, *kept: int) -> sec.Plan:
    masks = {g.name: torch.zeros(g.size, dtype=torch.bool) for g in groups}
    for mask in masks.values():
        mask[list(kept)] = True
    return sec.Plan(groups, masks)


@pytest.mark.parametrize("kind", EVERY)
def test_one_group_a_mixture(kind: type[nn.Module]) -> None:
    groups = sec.groups(mixtures.net(kind(), kind()), _example(kind), sec.Experts())

    assert [(g.name, g.kind, g.size) for g in groups] == [
        (_name(kind, 0), "expert", 4),
        (_name(kind, 1), "expert", 4),
    ]
    assert not groups.fixed
    assert not any(g.declared for g in groups)


@pytest.mark.parametrize("kind", EVERY)
def test_what_is_left_is_the_network_built_by_hand(kind: type[nn.Module]) -> None:
    model, x = mixtures.net(kind(), kind()), _example(kind)
    before = copy.deepcopy(model.state_dict())
    groups = sec.groups(model, x, sec.Experts())
    small = sec.shrink(model, _plan(groups, 0, 3))

    by_hand = copy.deepcopy(model)
    for mixture in by_hand.mixtures:
        mixtures.without(mixture, [0, 3])
    found, wanted = small.state_dict(), by_hand.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert torch.equal(small(x), by_hand(x))
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)


@pytest.mark.parametrize("kind", EVERY)
def test_masked_computes_what_is_left(kind: type[nn.Module]) -> None:
    model, x = mixtures.net(kind(), kind()), _example(kind)
    groups = sec.groups(model, x, sec.Experts())
    plan = _plan(groups, 1, 2)
    certificate = sec.certify(model, sec.shrink(model, plan), plan, x)

    assert certificate.exact, certificate
    assert certificate.moved > 1e-3
    assert not certificate.declared


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([Sparse, mixtures.Numbered, mixtures.Corrected, mixtures.Scattered]),
    st.lists(st.integers(0, 5), min_size=2, max_size=6, unique=True),
    st.integers(0, 99),
)
def test_any_experts_may_leave(kind: type[nn.Module], kept: list[int], seed: int) -> None:
    model, x = mixtures.net(kind(6), seed=seed), _example(kind, 5)
    groups = sec.groups(model, x, sec.Experts())
    plan = _plan(groups, *kept)
    if plan.removed:
        assert sec.certify(model, sec.shrink(model, plan), plan, x).exact


@pytest.mark.parametrize("kind", EVERY)
def test_what_is_counted_is_what_runs(kind: type[nn.Module]) -> None:
    model, x = mixtures.net(kind(), kind()), _example(kind)
    groups = sec.groups(model, x, sec.Experts())
    plan = _plan(groups, 0, 2)
    small = sec.shrink(model, plan)

    assert (macs(groups), params(groups)) == (count_macs(model, x), count_params(model))
    assert params(groups, plan.masks) == count_params(small)
    assert macs(groups, plan.masks) == count_macs(small, x)


def test_the_work_of_a_routed_expert_is_done_by_others() -> None:
    sparse, dense = (mixtures.net(kind()) for kind in (Sparse, mixtures.Dense))
    x = _example(Sparse, 8)
    expert, row = 8 * 2 * 6 * 5, 8 * 6

    for model, less in ((sparse, 2 * row), (dense, 2 * (row + expert))):
        groups = sec.groups(model, x, sec.Experts())
        assert macs(groups) - macs(groups, _plan(groups, 0, 1).masks) == less


@pytest.mark.parametrize("kind", [Sparse, mixtures.Numbered, mixtures.Gathered])
def test_a_plan_is_saved_and_loaded(kind: type[nn.Module], tmp_path: Path) -> None:
    model, x = mixtures.net(kind()), _example(kind)
    plan = _plan(sec.groups(model, x, sec.Experts()), 1, 3)
    loaded = sec.Plan.load(plan.save(tmp_path / "plan.safetensors"))

    assert torch.equal(sec.shrink(model, loaded)(x), sec.shrink(model, plan)(x))
    (group,), (before,) = loaded.groups, plan.groups
    assert (group.gate, group.least, group.modules) == (before.gate, before.least, before.modules)
    assert str(loaded.groups) == str(plan.groups)


@pytest.mark.parametrize("k", [2, 3])
def test_as_many_stay_as_are_chosen_at_once(k: int) -> None:
    model, x = mixtures.net(Sparse(4, k)), _example(Sparse)
    groups = sec.groups(model, x, sec.Experts())

    assert groups["mixtures.0.experts"].least.units == k
    with pytest.raises(
        PlanError, match=rf"{k} must stay: {k} are chosen at once by topk"
    ) as caught:
        _plan(groups, *range(k - 1))
    assert "(mixtures.0.k)" in caught.value.what
    scores = sec.score(model, groups, None, sec.Magnitude())
    with pytest.raises(sec.SecateurError, match="cannot be reached"):
        sec.allocate(groups, scores, sec.Ranked(by="magnitude"), "units=0.1")
    plan = sec.allocate(groups, scores, sec.Ranked(by="magnitude"), f"units={k / 4}")
    assert plan.masks["mixtures.0.experts"].sum() == k


def test_all_are_chosen_at_once() -> None:
    groups = sec.groups(mixtures.net(Sparse(4, 4)), _example(Sparse), sec.Experts())

    assert not len(groups)
    (fixed,) = groups.fixed
    assert (fixed.name, fixed.units) == ("mixtures.0.experts", 4)
    assert "4 are chosen at once by topk" in fixed.why


@pytest.mark.parametrize(
    "entry", ["mixtures.1", "mixtures.1.experts.2", "mixtures.1.router.weight"]
)
def test_what_is_kept(entry: str) -> None:
    model = mixtures.net(Sparse(), Sparse())
    groups = sec.groups(model, _example(Sparse), sec.Experts(keep=[entry]))

    assert [g.name for g in groups] == ["mixtures.0.experts"]
    assert [(f.name, f.operator) for f in groups.fixed] == [("mixtures.1.experts", "keep")]
    with pytest.raises(UnknownNameError):
        sec.groups(model, _example(Sparse), sec.Experts(keep=["mixtures.7"]))


def test_experts_in_another_order_are_seen_by_the_trial() -> None:
    class Turned(Sparse):
        def forward(self, x: Tensor) -> Tensor:
            shares, chosen = self.router(x).softmax(-1).topk(self.k, dim=-1)
            out = torch.zeros_like(x)
            for number, expert in enumerate(reversed(self.experts)):
                rows, place = torch.where(chosen == number)
                out.index_add_(0, rows, shares[rows, place, None] * expert(x[rows]))
            return out

    groups = sec.groups(mixtures.net(Turned(5, 1)), _example(Sparse, 40), sec.Experts())
    assert not len(groups)
    (fixed,) = groups.fixed
    assert (fixed.name, fixed.operator) == ("mixtures.0.experts", "trial")
    assert "computes different things" in fixed.why


def test_routers_output_that_leaves_the_network() -> None:
    class Telling(Sparse):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x), self.router(x)

    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mixture = Telling()

        def forward(self, x: Tensor) -> Tensor:
            return self.mixture(x)

    groups = sec.groups(Bare(), torch.randn(9, 6), sec.Experts())
    assert not len(groups)
    assert {fixed.why for fixed in groups.fixed} == {"the outputs change their shape"}


def test_work_that_follows_no_rule_is_refused() -> None:
    class Capped(Sparse):  # no expert takes more than five samples
        def forward(self, x: Tensor) -> Tensor:
            shares, chosen = self.router(x).softmax(-1).topk(self.k, dim=-1)
            out = torch.zeros_like(x)
            for number, expert in enumerate(self.experts):
                rows, place = (found[:5] for found in torch.where(chosen == number))
                out.index_add_(0, rows, shares[rows, place, None] * expert(x[rows]))
            return out

    groups = sec.groups(mixtures.net(Capped()), _example(Sparse, 10), sec.Experts())
    assert not len(groups)
    assert "multiply-accumulates in mixtures.0.experts" in groups.fixed[0].why


def test_a_network_without_experts_has_none() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    groups = sec.groups(model, torch.randn(2, 3), sec.Experts())
    assert (len(groups), groups.fixed) == (0, ())


def test_pruned_and_rebuilt_through_the_short_path() -> None:
    model, x = mixtures.net(Sparse(), Sparse()), _example(Sparse, 60)
    data = [(x, (x[:, 0] > 0).long())]
    result = sec.prune(model, x, data, method="utilization", to="params=0.7", granularity="experts")

    assert result.certificate.exact
    assert count_params(result.model) <= 0.7 * count_params(model)
    assert F.cross_entropy(result.model(x), data[0][1]).isfinite()


@pytest.mark.parametrize("measure", ["fast", "plain"])
def test_the_oracle_asks_the_network_without_the_expert(measure: str) -> None:
    model, x = mixtures.net(Sparse()), _example(Sparse, 60)
    data, groups = [(x, (x[:, 0] > 0).long())], sec.groups(model, x, sec.Experts())
    method = f"oracle?samples=60&scored=60&measure={measure}"
    result = sec.prune(model, x, data, method=method, to="units=0.75", granularity="experts")

    losses = []
    for gone in range(4):
        plan = _plan(groups, *({0, 1, 2, 3} - {gone}))
        losses.append(F.cross_entropy(sec.shrink(model, plan)(x), data[0][1]).item())
    mask = result.plan.masks["mixtures.0.experts"]
    assert (~mask).nonzero().item() == losses.index(min(losses))


def test_experts_inside_an_expert() -> None:
    class Outer(mixtures.Dense):
        def __init__(self) -> None:
            super().__init__(3)
            self.experts = nn.ModuleList(Sparse(4, 1) for _ in range(3))

    model, x = mixtures.net(Outer()), _example(Sparse)
    groups = sec.groups(model, x, sec.Experts())
    inner = [f"mixtures.0.experts.{i}.experts" for i in range(3)]
    assert [(g.name, g.size) for g in groups] == [(name, 4) for name in inner]
    (fixed,) = groups.fixed
    assert fixed.name == "mixtures.0.experts"
    assert fixed.why == f"its experts hold mixtures of their own: {', '.join(inner)}"
    plan = _plan(groups, 1, 2)
    small = sec.shrink(model, plan)
    assert sec.certify(model, small, plan, x).exact
    assert macs(groups, plan.masks) == count_macs(small, x)


def test_an_expert_stays_itself() -> None:
    model, x = mixtures.net(Sparse()), _example(Sparse)
    small = sec.shrink(model, _plan(sec.groups(model, x, sec.Experts()), 1, 3))

    own, first = model.mixtures[0].experts, small.mixtures[0].experts[0]
    assert isinstance(first, Expert)
    assert torch.equal(first.up.weight, own[1].up.weight)
    assert first.up.weight.data_ptr() != own[1].up.weight.data_ptr()


def _by(choose: object) -> nn.Module:
    """A mixture that makes other shares of its logits."""

    class Chosen(mixtures.Dense):
        def forward(self, x: Tensor) -> Tensor:
            shares = choose(self.router(x))
            return sum(shares[:, i : i + 1] * e(x) for i, e in enumerate(self.experts))

    return Chosen(8)


def _in_groups(logits: Tensor) -> Tensor:
    """Of the two halves of the experts, only the one that holds the best pair."""
    halves = logits.view(len(logits), 2, -1)
    best = halves.topk(2, -1).values.sum(-1).argmax(-1, keepdim=True)
    there = torch.zeros(len(logits), 2).scatter(1, best, 1.0).bool()
    return halves.masked_fill(~there.unsqueeze(-1), -1e9).flatten(1).softmax(-1)


@pytest.mark.parametrize(
    "choose", [_in_groups, lambda logits: F.normalize(logits, dim=-1).softmax(-1)]
)
def test_routers_that_a_closed_gate_changes_are_refused(choose: object) -> None:
    groups = sec.groups(mixtures.net(_by(choose)), _example(Sparse, 20), sec.Experts())
    assert not len(groups)
    (fixed,) = groups.fixed
    assert fixed.name == "mixtures.0.experts"


@pytest.mark.parametrize(
    "choose",
    [
        lambda logits: (logits / 3.0).softmax(-1),
        lambda logits: (logits - logits.amax(-1, keepdim=True)).softmax(-1),
        lambda logits: (30 * (logits / 30).tanh()).softmax(-1),  # capped, but still low enough
    ],
)
def test_what_is_found_is_exact(choose: object) -> None:
    model, x = mixtures.net(_by(choose)), _example(Sparse, 20)
    groups = sec.groups(model, x, sec.Experts())
    plan = _plan(groups, 0, 3, 5)
    assert len(groups) == 1
    assert sec.certify(model, sec.shrink(model, plan), plan, x).exact

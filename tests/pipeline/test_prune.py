"""`prune`: the whole way in one call, on values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import secateur as sec
from secateur.cost import count_macs, count_params
from secateur.errors import (
    BudgetError,
    DataError,
    ModelError,
    OptionError,
    PlanError,
    UnknownNameError,
)
from secateur.measure import accuracy
from secateur.pipeline import Progress
from secateur.types.kept import as_mask, kept
from tests.pipeline.small import Net, data, net, part, state


def batches(samples: int = 96) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(part(samples, seed=0).batches(32))


def test_it_prunes_to_the_budget_and_tells_all() -> None:
    model, seen = net(), []
    result = sec.prune(model, data=data(), to="macs=0.5", finetune=1, progress=seen.append)
    x = part(4, seed=9).x
    dense, pruned = result.measures["dense"], result.measures["pruned"]
    assert dense["macs"] == count_macs(model, x[:1])
    assert pruned["macs"] == count_macs(result.model, x[:1]) <= 0.5 * dense["macs"]
    assert pruned["params"] == count_params(result.model)
    assert 0 < pruned["packed_bytes"] < dense["packed_bytes"]
    assert result.measures["budgets"][0]["met"] is True
    assert list(pruned["accuracy"]) == ["oneshot", "recalibrated", "finetuned"]
    test = data().test.batches(50)
    assert pruned["accuracy"]["finetuned"] == accuracy(result.model, test).to_json()
    assert dense["accuracy"] == accuracy(model, test).to_json()
    assert result.certificate.exact
    assert result.certificate.removed_units == result.plan.removed > 0
    assert result.holds
    assert set(result.scores) == {"taylor"}
    assert not result.model.training
    assert {progress.stage for progress in seen} >= {"groups", "score", "recalibrate", "finetune"}
    assert seen[-1] == Progress("latency")
    for words in ("MACs, batch 1", "fine-tuned", "exact"):
        assert words in str(result)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_and_the_random_state_stay_what_they_were(training: bool) -> None:
    model = net().train(training)
    model.inner[1].eval()  # a mixture of modes must come back as it was
    model.stem[0].weight.requires_grad_(False)
    before, drawn = state(model), torch.get_rng_state()
    sec.prune(model, data=data(), to="macs=0.6", finetune=1)
    assert state(model) == before
    assert torch.equal(torch.get_rng_state(), drawn)


def test_equal_arguments_give_equal_bytes() -> None:
    def once() -> dict[str, torch.Tensor]:
        torch.rand(3)  # whatever the caller draws
        shuffling = DataLoader(TensorDataset(*vars_of(part(96, 0))), 32, shuffle=True)
        return sec.prune(net(), data=shuffling, to="macs=0.5", finetune=1).model.state_dict()

    first, second = once(), once()
    assert all(torch.equal(first[name], second[name]) for name in first)


def vars_of(split: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return split.x, split.y


@pytest.mark.parametrize("method", ["magnitude", "magnitude?p=1", "random", "taylor"])
@pytest.mark.parametrize("allocator", ["ranked", "uniform"])
def test_every_method_meets_the_budget(method: str, allocator: str) -> None:
    result = sec.prune(net(), data=data(), method=method, to="params=0.5", allocator=allocator)
    assert result.measures["pruned"]["params"] <= 0.5 * result.measures["dense"]["params"]
    assert result.holds


@pytest.mark.parametrize("granularity", ["weights", "kernels", "block:2:4:0"])
def test_what_can_only_be_masked_goes_the_same_way(granularity: str) -> None:
    to = None if granularity.startswith("block") else "params=0.5"
    result = sec.prune(net(), data=data(), to=to, granularity=granularity, finetune=1)
    dense, pruned = result.measures["dense"], result.measures["pruned"]
    assert pruned["params"] < dense["params"]
    assert pruned["weight_bytes"] == dense["weight_bytes"]  # masked, not gone
    assert result.certificate.exact
    tensors, gone = dict(result.model.named_parameters()), 0
    for name, by_dims in kept(result.plan.groups, result.plan.masks).items():
        removed = ~as_mask(by_dims, tuple(tensors[name].shape)).expand_as(tensors[name])
        assert not tensors[name][removed].any()  # fine-tuning kept them at zero
        gone += int(removed.sum())
    assert pruned["params"] == dense["params"] - gone


def test_blocks_keep_exactly_two_of_four() -> None:
    result = sec.prune(
        net(), data=data(), to=None, granularity=sec.Block(2, 4, dim=0), method="magnitude"
    )
    weight = result.model.inner[0].weight.movedim(0, -1).reshape(-1, 4)
    assert ((weight != 0).sum(1) == 2).all()


def test_an_example_is_taken_from_the_data_if_need_be() -> None:
    x, y = part(64, seed=0).x, part(64, seed=0).y
    loader = DataLoader(TensorDataset(x, y), batch_size=16)
    for given in (data(), [(x, y)], loader):
        result = sec.prune(net(), data=given, to="macs=0.5")
        assert result.measures["dense"]["latency_s"]["batch"] == 1
    of_four = sec.prune(net(), x[:4], data(), to="macs=0.5")
    assert of_four.measures["dense"]["macs"] == 4 * result.measures["dense"]["macs"]


def test_without_data_weights_can_be_looked_at() -> None:
    result = sec.prune(net(), torch.randn(2, 1, 8, 8), method="magnitude", to="params=0.5")
    assert result.measures["dense"]["accuracy"] is None
    assert result.measures["pruned"]["accuracy"] is None
    with pytest.raises(DataError, match="taylor cannot be scored without data"):
        sec.prune(net(), torch.randn(2, 1, 8, 8), to="params=0.5")
    with pytest.raises(DataError, match="example"):
        sec.prune(net(), method="magnitude")


def test_accuracy_is_measured_on_what_is_named_for_it() -> None:
    test = list(part(40, seed=5).batches(20))
    result = sec.prune(net(), data=batches(), test=test, to="macs=0.5")
    assert result.measures["pruned"]["accuracy"]["oneshot"]["n"] == 40
    assert sec.prune(net(), data=batches(), to="macs=0.5").measures["dense"]["accuracy"] is None


def test_recalibration_is_for_batch_norms() -> None:
    plain = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4))
    result = sec.prune(plain, data=data(), to="macs=0.5")
    assert list(result.measures["pruned"]["accuracy"]) == ["oneshot"]
    left = sec.prune(net(), data=data(), to="macs=0.5", recalibrate=False)
    assert list(left.measures["pruned"]["accuracy"]) == ["oneshot"]
    cut = sec.shrink(net(), left.plan).state_dict()
    assert all(torch.equal(cut[name], tensor) for name, tensor in left.model.state_dict().items())


def test_what_is_kept_stays_whole() -> None:
    model = net()
    result = sec.prune(model, data=data(), to="macs=0.8", keep=[model.inner])
    assert result.model.inner[0].out_channels == 16
    both = sec.prune(model, data=data(), to="params=0.9", granularity=sec.Weights(["head"]),
                     keep=["stem*"])  # fmt: skip
    assert set(both.plan.masks) == {"inner.0", "outer"}


def test_several_budgets_hold_at_once() -> None:
    result = sec.prune(net(), data=data(), to=["macs=0.6", sec.params(0.4), "units=0.9"])
    assert [budget["met"] for budget in result.measures["budgets"]] == [True] * 3


@dataclass(frozen=True, slots=True)
class Unread(sec.Saliency):
    """Fails as soon as data are read."""

    needs: ClassVar[frozenset[sec.Need]] = frozenset({sec.Need.GRADIENTS})

    def start(self, group: sec.Group) -> dict[str, torch.Tensor]:
        return {}

    def observe(self, state: Any, seen: Any) -> Any:
        raise AssertionError("the data were read")

    def finish(self, state: Any, group: sec.Group) -> torch.Tensor:
        return torch.zeros(group.size)


def test_a_budget_out_of_reach_is_told_before_scoring() -> None:
    with pytest.raises(BudgetError, match="the smallest is macs=0") as caught:
        sec.prune(net(), data=data(), method=Unread(), to="macs=0.0001")
    nearest = caught.value.nearest
    assert nearest is not None
    result = sec.prune(net(), data=data(), to=f"macs={nearest!r}")
    assert result.measures["budgets"][0]["reached"] == pytest.approx(nearest)


@pytest.mark.parametrize(
    ("error", "words", "choices"),
    [
        (UnknownNameError, "taylor", {"method": "tailor"}),
        (UnknownNameError, "nothing is called 'nix'", {"keep": ["nix"]}),
        (UnknownNameError, "granularity", {"granularity": "filters"}),
        (UnknownNameError, "allocator", {"allocator": "greedy"}),
        (OptionError, "no option 'keeps'", {"keeps": ["stem"]}),
        (OptionError, "block:2:4", {"granularity": "block:2"}),
        (OptionError, "list", {"keep": "stem"}),
        (OptionError, "saliency", {"method": sec.Taylor}),
        (OptionError, "p must be", {"method": "magnitude?p=3"}),
        (OptionError, "finetune", {"finetune": -1}),
        (OptionError, "samples", {"samples": 0}),
        (OptionError, "floor", {"floor": 0}),
        (OptionError, "'some' cannot be measured", {"measure": "some"}),
        (OptionError, "latency=0.9 must be measured", {"to": "latency=0.9", "measure": "counted"}),
        (OptionError, "bytes=0.9", {"to": ["macs=0.9", "bytes=0.9"], "measure": "counted"}),
        (BudgetError, "flops", {"to": "flops=0.5"}),
        (BudgetError, "measured", {"to": "latency=0.5", "method": "oracle"}),
        (BudgetError, "cannot be reached", {"to": "memory=0.001"}),
        (BudgetError, "without a budget", {"to": None}),
        (PlanError, "nothing needs to go", {"to": "macs=1.0"}),
    ],
)
def test_what_makes_no_sense_is_refused(error: type, words: str, choices: dict[str, Any]) -> None:
    with pytest.raises(error) as caught:
        sec.prune(net(), data=data(), **choices)
    assert words in str(caught.value)


@pytest.mark.parametrize("method", ["taylor", "fair", "flexrel?delta=0.5"])
def test_budgets_that_must_be_measured_hold_by_the_measured_number(method: str) -> None:
    to = ["memory=0.9", "bytes=0.9", "accuracy=-20", "macs=0.9"]
    result = sec.prune(net(), data=data(), to=to, method=method, granularity="channels")
    verdicts = {verdict["quantity"]: verdict for verdict in result.measures["budgets"]}
    dense, pruned = result.measures["dense"], result.measures["pruned"]
    assert all(verdict["met"] for verdict in verdicts.values())
    assert result.holds
    assert pruned["peak_memory_bytes"] <= 0.9 * dense["peak_memory_bytes"]
    assert pruned["packed_bytes"] <= 0.9 * dense["packed_bytes"]
    last = list(pruned["accuracy"].values())[-1]["value"]
    assert 100 * (last - dense["accuracy"]["value"]) >= -20
    assert result.plan.about["search"]


def test_an_accuracy_cannot_be_kept_where_nothing_is_judged() -> None:
    with pytest.raises(DataError, match="judge"):
        sec.prune(net(), data=batches(), to="accuracy=-1")


def test_a_latency_is_kept_or_the_result_says_by_how_much_it_was_missed() -> None:
    result = sec.prune(net(), data=data(), to="latency=0.98")
    (verdict,) = result.measures["budgets"]
    assert verdict["met"] is (verdict["reached"] <= 0.98)
    assert result.holds is verdict["met"]


def test_what_can_be_counted_is_the_same_without_a_clock() -> None:
    seen: list[Progress] = []
    whole = sec.prune(net(), data=data(), to="macs=0.5", measure="all")
    quick = sec.prune(
        net(), data=data(), to=["macs=0.5", "memory=0.99"], measure="counted", progress=seen.append
    )
    assert Progress("latency") not in seen
    for which in ("dense", "pruned"):
        full, some = dict(whole.measures[which]), dict(quick.measures[which])
        assert full.pop("latency_s")["repeats"] >= 5
        assert full.pop("packed_bytes") > 0
        assert some.pop("latency_s") is None
        assert some.pop("packed_bytes") is None
        assert full == some
    assert quick.certificate == whole.certificate
    assert [verdict["met"] for verdict in quick.measures["budgets"]] == [True, True]
    assert quick.measures["unmeasured"].keys() == {"latency_s", "packed_bytes"}
    assert "unmeasured" not in whole.measures


def test_bad_networks_and_data_are_refused_and_left_alone() -> None:
    sick, frozen = net(), net().requires_grad_(False)
    with torch.no_grad():
        sick.head.weight[0, 0] = torch.nan
    x, y = part(32, seed=0).x, part(32, seed=0).y
    for model, given, choices, error in (
        (sick, data(), {}, ModelError),
        (nn.DataParallel(net()), data(), {}, ModelError),
        (torch.compile(net(), backend="eager"), data(), {}, ModelError),
        (frozen, data(), {"finetune": 1}, ModelError),
        (net(), [], {}, DataError),
        (net(), [(x * torch.inf, y)], {}, DataError),
        (net(), iter([(x, y)]), {}, DataError),
        (net(), [(x, y + 4)], {}, DataError),
        (net(), [x], {}, DataError),
        (net(), [(x[:, :, 0], y)], {}, (DataError, ModelError)),
    ):
        before = state(model)
        with pytest.raises(error) as caught:
            sec.prune(model, data=given, **choices)
        assert caught.value.what
        assert state(model) == before
    result = sec.prune(frozen, data=data(), to="macs=0.5")
    assert not any(parameter.requires_grad for parameter in result.model.parameters())


def test_a_loss_of_ones_own_is_used() -> None:
    asked = []

    def loss(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        asked.append(len(y))
        return F.mse_loss(output, F.one_hot(y, 4).float())

    sec.prune(net(), data=batches(96), to="macs=0.5", loss=loss, samples=64)
    assert asked == [32, 32]


def test_a_network_of_several_inputs() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right, self.head = nn.Linear(6, 8), nn.Linear(5, 8), nn.Linear(8, 3)

        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return self.head((self.left(a) + self.right(b)).relu())

    def read() -> Iterator[Any]:
        draw = torch.Generator().manual_seed(0)
        for _ in range(3):
            pair = torch.randn(16, 6, generator=draw), torch.randn(16, 5, generator=draw)
            yield pair, torch.randint(3, (16,), generator=draw)

    result = sec.prune(Two(), data=list(read()), test=list(read()), to="params=0.6")
    assert result.certificate.exact
    assert result.measures["pruned"]["accuracy"]["oneshot"]["n"] == 48


def test_the_network_class_is_that_of_the_user() -> None:
    assert type(sec.prune(net(), data=data(), to="macs=0.5").model) is Net


def test_a_result_holds_if_every_budget_does() -> None:
    result = sec.prune(net(), data=data(), to="macs=0.5")
    for met, holds in ((True, True), (None, True), (False, False)):
        budgets = [{"quantity": "macs", "asked": 0.5, "reached": 0.6, "met": met}]
        assert replace(result, measures={"budgets": budgets}).holds is holds
    broken = replace(result.certificate, exact=False, declared=())
    assert not replace(result, certificate=broken).holds

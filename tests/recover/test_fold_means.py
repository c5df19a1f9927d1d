from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import secateur as sec
from secateur.errors import DataError, OptionError, PlanError
from secateur.mask.check import named_tensors
from secateur.mask.fill import fill
from secateur.recover import fold_means, recalibrate
from secateur.recover.consumers import consumers
from tests.handmade import same_state, state_of
from tests.recover.cut import CASES, Cut, cut, differing, everything, flattened, hooks, lively, seen


def twin(case: Cut, layer: str) -> Tensor:
    """The definition: what kept channels send is taken away by setting them to zero in the input."""
    dense: Any = copy.deepcopy(case.model.get_submodule(layer))
    dense.bias = None
    consumer = consumers(case.small, case.model, case.plan)[0][layer]
    x, _ = seen(case.model, layer, case.x)
    if isinstance(dense, nn.Linear):
        x[..., consumer.inputs] = 0
        out = dense(x).flatten(0, -2)
    else:
        x[:, consumer.inputs.repeat(dense.groups)] = 0
        out = dense(x).movedim(1, -1).flatten(0, -2)
    mean: Tensor = out.detach().mean(0)[consumer.outputs]
    return mean


@pytest.mark.parametrize("name", CASES)
def test_it_agrees_with_the_plain_twin(name: str) -> None:
    case = CASES[name]()
    before = everything(case.small)
    done = fold_means(case.small, case.model, case.plan, case.data)
    assert done.changed
    for layer, names in done.changed.items():
        sign = -1 if names[0].endswith("running_mean") else 1
        moved = case.small.state_dict()[names[0]] - before[names[0]]
        torch.testing.assert_close(moved, sign * twin(case, layer), rtol=1e-9, atol=1e-12)
    assert differing(case.small, before) == {names[0] for names in done.changed.values()}


def test_what_each_network_lets_it_do() -> None:
    results = {name: fold_means(*_arguments(make())) for name, make in CASES.items()}
    assert results["flattened"].changed == {"conv2": ("conv2.bias",), "fc": ("fc.bias",)}
    assert results["strided"].changed == {"2": ("3.running_mean",)}
    assert set(results["strided"].left) == {"5"}
    assert set(results["sequences"].left) == {"head"}
    residual = results["residual"]
    assert residual.changed["stage2.0.shortcut.0"] == ("stage2.0.shortcut.1.running_mean",)
    assert next(iter(residual.changed)) == "stage1.0.conv1"  # in the order of the run
    assert list(residual.changed)[-1] == "head"
    assert not residual.left
    assert "head: left, it has no bias" in str(results["sequences"])


def _arguments(case: Cut) -> tuple[nn.Module, nn.Module, sec.Plan, list[Tensor]]:
    return case.small, case.model, case.plan, case.data


def constant(model: nn.Module, layer: str, units: list[int]) -> None:
    """Units that always give the same."""
    with torch.no_grad():
        module: Any = model.get_submodule(layer)
        module.weight[units] = 0
        if module.bias is not None:
            module.bias[units] = 1.5


@given(st.integers(0, 10_000), st.lists(st.integers(0, 5), min_size=1, max_size=5, unique=True))
def test_a_constant_unit_is_replaced_exactly(seed: int, units: list[int]) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.ReLU(),
                          nn.Flatten(), nn.Linear(16, 3))  # fmt: skip
    constant(model, "0", units)
    constant(model, "2", [0, 2])
    case = cut(model, torch.randn(8, 2, 6, 6), {"0": units, "2": [0, 2]})
    fold_means(*_arguments(case))
    torch.testing.assert_close(case.small(case.x), case.model(case.x), rtol=1e-10, atol=1e-10)


def test_through_a_batchnorm_too_and_then_recalibration_changes_nothing_more() -> None:
    model = lively(nn.Sequential(nn.Conv2d(2, 6, 1), nn.ReLU(), nn.Conv2d(6, 4, 1, bias=False),
                                 nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 1)))  # fmt: skip
    constant(model, "0", [1, 4])
    case = cut(model, torch.randn(16, 2, 5, 5), {"0": [1, 4]})
    assert not torch.allclose(case.small(case.x), case.model(case.x), atol=1e-3)
    assert fold_means(*_arguments(case)).changed == {"2": ("3.running_mean",)}
    torch.testing.assert_close(case.small(case.x), case.model(case.x), rtol=1e-10, atol=1e-10)
    recalibrate(case.small, case.data)
    dense = copy.deepcopy(case.model)
    recalibrate(dense, case.data)
    torch.testing.assert_close(case.small(case.x), dense(case.x), rtol=1e-10, atol=1e-10)


def test_recalibration_keeps_what_went_into_biases() -> None:
    case = flattened()
    done = fold_means(*_arguments(case))
    before = everything(case.small)
    recalibrate(case.small, case.data)
    assert differing(case.small, before) <= {
        "bn.running_mean", "bn.running_var", "bn.num_batches_tracked"}  # fmt: skip
    assert done.changed["fc"] == ("fc.bias",)


def test_zero_padding_counts_as_the_average_over_the_positions() -> None:
    model = nn.Sequential(nn.Conv1d(1, 2, 1), nn.Conv1d(2, 1, 3, padding=1), nn.Conv1d(1, 1, 1))
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.copy_(torch.tensor([0.0, 2.0]))
        model[1].weight.fill_(1.0)
        model[1].bias.zero_()
    case = cut(model, torch.randn(4, 1, 4), {"0": [1]})
    fold_means(*_arguments(case))
    # of four positions the two at the ends see two constants, the others three: 2.5 on average
    assert case.small.get_parameter("1.bias").item() == pytest.approx(5.0)


class Twice(nn.Module):
    """A layer that runs twice, a BatchNorm that runs twice, and an output that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Linear(4, 6)
        self.again = nn.Linear(6, 6)
        self.one, self.two = nn.Linear(6, 5, bias=False), nn.Linear(6, 5, bias=False)
        self.shared = nn.BatchNorm1d(5)
        self.beside, self.own = nn.Linear(6, 5, bias=False), nn.BatchNorm1d(5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.wide(x))
        x = F.relu(self.again(F.relu(self.again(x))))
        side = self.beside(x)
        return self.shared(self.one(x)) + self.shared(self.two(x)) + self.own(side) + side


def test_layers_that_run_twice_and_outputs_that_are_used_twice() -> None:
    case = cut(lively(Twice()), torch.randn(32, 4))
    with torch.no_grad():
        first = F.relu(case.model.wide(case.x))  # type: ignore[operator]
        inputs = torch.cat([first, F.relu(case.model.again(first))])  # type: ignore[operator]
    mask = case.plan.masks[case.plan.groups.groups[0].name]
    weight = case.model.get_parameter("again.weight").detach()
    wanted = (inputs[:, ~mask] @ weight[mask][:, ~mask].T).mean(0)
    before = everything(case.small)
    done = fold_means(*_arguments(case))
    assert done.changed == {"again": ("again.bias",)}
    torch.testing.assert_close(case.small.state_dict()["again.bias"] - before["again.bias"], wanted)
    assert set(done.left) == {"one", "two", "beside"}


class Shown(nn.Module):
    """What leads into a BatchNorm is an output as well."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.read = nn.Linear(4, 6), nn.Linear(6, 3, bias=False)
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.read(F.relu(self.wide(x)))
        return self.norm(x), x


def test_an_output_that_a_batchnorm_would_not_reach() -> None:
    done = fold_means(*_arguments(cut(Shown(), torch.randn(8, 4))))
    assert (done.changed, set(done.left)) == ({}, {"read"})


def test_a_depthwise_convolution_misses_nothing() -> None:
    model = nn.Sequential(nn.Conv2d(2, 6, 1), nn.ReLU(), nn.Conv2d(6, 6, 3, groups=6), nn.ReLU(),
                          nn.Conv2d(6, 3, 1))  # fmt: skip
    case = cut(model, torch.randn(8, 2, 5, 5))
    done = fold_means(*_arguments(case))
    assert (done.changed, done.left) == ({"4": ("4.bias",)}, {})


class Odd(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide, self.read = nn.Linear(3, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.wide(x))
        return self.read(x) + F.linear(x, self.read.weight)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide, self.one, self.two = nn.Linear(3, 6), nn.Linear(6, 4), nn.Linear(6, 4)
        self.two.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.wide(x))
        return torch.as_tensor(self.one(x) + self.two(x))


class Memory(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide, self.read = nn.Linear(3, 6), nn.LSTM(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.read(F.relu(self.wide(x)).unsqueeze(0))[0]
        return out


@pytest.mark.parametrize(
    ("model", "layer", "why"),
    [
        (nn.Sequential(nn.Linear(3, 6), nn.ReLU(), Odd(6, 4)), "2", "in its own way"),
        (Functional(), "read", "outside of the layer"),
        (Tied(), "one", "shares its weight"),
        (
            nn.Sequential(nn.Linear(3, 6), nn.ReLU(),
                          nn.utils.parametrizations.weight_norm(nn.Linear(6, 4))),
            "2.parametrizations.weight.original1",
            "parametrised",
        ),
        (Memory(), "read.weight_ih_l0", "LSTM is neither"),
    ],
)  # fmt: skip
def test_what_is_left_is_told(model: nn.Module, layer: str, why: str) -> None:
    case = cut(model, torch.randn(8, 3))
    before = everything(case.small)
    done = fold_means(case.small, case.model, case.plan, iter(()))  # no data is read
    assert done.changed == {}
    assert why in done.left[layer]
    assert not differing(case.small, before)


def test_a_transposed_convolution_is_left() -> None:
    model = nn.Sequential(nn.Conv2d(1, 6, 1), nn.ReLU(), nn.ConvTranspose2d(6, 2, 2))
    done = fold_means(*_arguments(cut(model, torch.randn(4, 1, 4, 4))))
    assert "transposed" in done.left["2"]


def test_the_dense_network_labels_and_random_numbers_are_left_alone() -> None:
    case = flattened()
    case.model.train()
    case.model.get_parameter("fc.weight").requires_grad_(False)
    before, random = state_of(case.model), torch.get_rng_state()
    case.small.train()
    labelled = [(x, torch.full((7,), -3)) for x in case.data]  # which no loss would take
    told: list[int] = []
    fold_means(case.small, case.model, case.plan, labelled, progress=told.append)
    assert same_state(case.model, before)
    assert hooks(case.model) == hooks(case.small) == 0
    assert torch.equal(torch.get_rng_state(), random)
    assert all(module.training for module in case.small.modules())
    assert told == [1, 2, 3]
    again = sec.shrink(case.model, case.plan)
    fold_means(again, case.model, case.plan, iter(case.data))  # once is enough
    assert not differing(again, everything(case.small))


def test_as_many_batches_as_asked_for() -> None:
    case, few = flattened(), flattened()
    fold_means(*_arguments(case), batches=2)
    few = case._replace(small=sec.shrink(case.model, case.plan))
    fold_means(few.small, few.model, few.plan, few.data[:2])
    assert not differing(few.small, everything(case.small))


def test_a_stored_run_can_still_be_filled() -> None:
    case = CASES["strided"]()
    fold_means(*_arguments(case))
    fresh = sec.shrink(case.model, case.plan)
    fill(fresh, named_tensors(case.small))
    torch.testing.assert_close(fresh(case.x), case.small(case.x), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda data: [], "no batch"),
        (lambda data: [*data, torch.full_like(data[0], float("nan"))], "NaN"),
        (lambda data: [*data, data[0][:, :2]], "does not run"),
        (lambda data: data[0], "iterable of batches"),
        (lambda data: [*data, (1, 2, 3)], "x or"),
    ],
)
def test_bad_data_changes_nothing(spoil: Any, what: str) -> None:
    case = flattened()
    before, dense = state_of(case.small), state_of(case.model)
    with pytest.raises(DataError, match=what):
        fold_means(case.small, case.model, case.plan, spoil(case.data))
    assert same_state(case.small, before)
    assert same_state(case.model, dense)
    assert hooks(case.model) == 0


def test_activations_that_are_not_finite() -> None:
    case = flattened()
    with torch.no_grad():
        case.model.get_parameter("conv1.bias")[1] = float("inf")  # a channel that goes
    before = everything(case.small)
    with pytest.raises(DataError, match="not finite") as caught:
        fold_means(*_arguments(case))
    assert caught.value.where == "conv2"
    assert not differing(case.small, before)


def test_networks_and_plans_that_do_not_belong_together() -> None:
    case, other = flattened(), CASES["residual"]()
    small, model, plan, data = _arguments(case)
    wrong: list[tuple[Any, Any, Any]] = [
        (other.small, model, plan), (small, other.model, plan), (small, model, other.plan),
        (model, model, plan), (small, small, plan), (None, model, plan), (small, None, plan),
        (small, model, None),
    ]  # fmt: skip
    for trio in wrong:
        with pytest.raises(PlanError):
            fold_means(*trio, data)
    whole = sec.Plan(plan.groups, {n: torch.ones_like(m) for n, m in plan.masks.items()})
    with pytest.raises(PlanError, match="removes nothing"):
        fold_means(small, model, whole, data)
    with pytest.raises(OptionError, match="at least 1"):
        fold_means(small, model, plan, data, batches=0)


@pytest.mark.parametrize("granularity", [sec.Weights(), sec.Kernels()])
def test_a_plan_that_only_masks(granularity: Any) -> None:
    case = flattened()
    groups = sec.groups(case.model, case.x[:2], granularity)
    masks = {group.name: torch.arange(group.size) % 3 > 0 for group in groups}
    plan = sec.Plan(groups, masks)
    with pytest.raises(OptionError, match="masked, not cut") as caught:
        fold_means(sec.shrink(case.model, plan), case.model, plan, case.data)
    assert "Channels" in caught.value.hint

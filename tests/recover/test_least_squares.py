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
from secateur.recover import fold_means, least_squares, recalibrate
from secateur.recover.consumers import consumers
from secateur.recover.normal_equations import NormalEquations
from secateur.recover.patches import columns
from tests.handmade import same_state, state_of
from tests.recover.cut import CASES, Cut, cut, differing, everything, flattened, hooks, seen


def unrolled(layer: Any, x: Tensor) -> Tensor:
    """(groups, rows, inputs), one element at a time: what a unit impulse in the weight returns."""
    probe = copy.deepcopy(layer)
    probe.bias = None
    groups, inputs, outputs = columns(layer)
    found = []
    with torch.no_grad():
        for i in range(inputs):
            probe.weight.zero_()
            probe.weight.flatten(1)[:, i] = 1
            out = probe(x)
            out = out if isinstance(layer, nn.Linear) else out.movedim(1, -1)
            found.append(out.flatten(0, -2)[:, ::outputs].T)
    return torch.stack(found, -1).reshape(groups, -1, inputs)


def twin(case: Cut, ridge: float) -> nn.Module:
    """The definition, layer by layer on all the data at once, by an orthogonal decomposition."""
    small = copy.deepcopy(case.small)
    found, _ = consumers(small, case.model, case.plan)
    order = fold_means(copy.deepcopy(case.small), case.model, case.plan, case.data)
    follow = {name: names[0] for name, names in order.changed.items()}
    for name, consumer in sorted(found.items(), key=lambda e: _position(case.model, e[0], case.x)):
        layer: Any = consumer.small
        x, out = seen(small, name, case.x)
        _, y = seen(case.model, name, case.x)
        dim = -1 if isinstance(layer, nn.Linear) else 1
        missing = (y.index_select(dim, consumer.outputs.nonzero()[:, 0]) - out).movedim(dim, -1)
        missing = missing.flatten(0, -2)
        place = named_tensors(small).get(follow.get(name, ""))
        if place is not None and place is not layer.bias:  # what the BatchNorm subtracts
            dense = case.model.state_dict()[follow[name]][consumer.outputs]
            missing = missing - dense + place
        rows = unrolled(layer, x)
        change, constant = [], []
        for group, wanted in zip(rows, missing.chunk(len(rows), 1), strict=True):
            w, b = _solved(group, wanted, ridge, place is not None)
            change.append(w.T)
            constant.append(b)
        with torch.no_grad():
            layer.weight += torch.cat(change).reshape(layer.weight.shape)
            if place is not None:
                place += torch.cat(constant) * (1 if place is layer.bias else -1)
    return small


def _solved(x: Tensor, y: Tensor, ridge: float, constant: bool) -> tuple[Tensor, Tensor]:
    centred = x - x.mean(0) if constant else x
    pull = (ridge * centred.square().sum(0).mean()).sqrt()
    ones = torch.full((len(x), 1), float(constant), dtype=x.dtype)
    held = torch.cat([pull * torch.eye(x.shape[1], dtype=x.dtype), ones[: x.shape[1]] * 0], 1)
    above = torch.cat([torch.cat([x, ones], 1), held])
    right = torch.cat([y, y.new_zeros(x.shape[1], y.shape[1])])
    best = torch.linalg.lstsq(above, right, driver="gelsd").solution
    return best[:-1], best[-1]


def _position(model: nn.Module, layer: str, x: Tensor) -> int:
    """How many modules have run before."""
    ran: list[str] = []
    handles = [
        module.register_forward_hook(lambda *_, n=name: ran.append(n))
        for name, module in model.named_modules()
    ]
    with torch.no_grad():
        model(x[:1])
    for handle in handles:
        handle.remove()
    return ran.index(layer)


@pytest.mark.parametrize("ridge", [1e-3, 1.0])
@pytest.mark.parametrize("name", CASES)
def test_it_agrees_with_the_plain_twin(name: str, ridge: float) -> None:
    case = CASES[name]()
    wanted = twin(case, ridge).state_dict()
    done = least_squares(case.small, case.model, case.plan, case.data, ridge=ridge)
    assert done.changed
    for tensor, values in case.small.state_dict().items():
        torch.testing.assert_close(values, wanted[tensor], rtol=1e-6, atol=1e-7, msg=tensor)


@pytest.mark.parametrize("name", CASES)
def test_only_what_it_names_changes(name: str) -> None:
    case = CASES[name]()
    before = everything(case.small)
    done = least_squares(case.small, case.model, case.plan, case.data)
    told = {tensor for names in done.changed.values() for tensor in names}
    assert differing(case.small, before) == told
    assert not done.left
    assert {f"{layer}.weight" for layer in done.changed} <= told


@pytest.mark.parametrize("name", ["flattened", "sequences", "solid"])
def test_little_memory_gives_the_same(name: str) -> None:
    case = CASES[name]()
    tight = sec.shrink(case.model, case.plan)
    found = consumers(tight, case.model, case.plan)[0].values()
    shapes = [columns(c.small) for c in found]
    memory = max(NormalEquations.size(*s) + s[0] * (s[1] + s[2]) * 16 * 2 for s in shapes)
    told: list[tuple[int, int]] = []
    done = least_squares(tight, case.model, case.plan, case.data, memory=memory,
                         progress=lambda *now: told.append(now))  # fmt: skip
    least_squares(case.small, case.model, case.plan, case.data)
    assert told == [(i + 1, len(shapes)) for i in range(len(shapes))]
    assert not done.left
    for tensor, values in tight.state_dict().items():
        torch.testing.assert_close(values, case.small.state_dict()[tensor], rtol=1e-7, atol=1e-9)


def test_a_layer_too_large_for_the_memory_is_left() -> None:
    case = flattened()
    before = everything(case.small)
    sizes = {n: NormalEquations.size(*columns(c.small))
             for n, c in consumers(case.small, case.model, case.plan)[0].items()}  # fmt: skip
    small, large = sorted(sizes, key=lambda n: sizes[n])
    done = least_squares(case.small, case.model, case.plan, case.data, memory=sizes[large])
    assert list(done.changed) == [small]
    assert f"more than {sizes[large]} bytes" in done.left[large]
    assert not differing(case.small, before) & {f"{large}.weight", f"{large}.bias"}


def repeated(model: nn.Module, layer: str, copies: dict[int, tuple[int, float]]) -> None:
    """Units that are a positive multiple of another one, through any ReLU."""
    with torch.no_grad():
        module: Any = model.get_submodule(layer)
        for unit, (of, times) in copies.items():
            module.weight[unit] = times * module.weight[of]
            if module.bias is not None:
                module.bias[unit] = times * module.bias[of]


@given(st.integers(0, 10_000))
def test_units_that_are_combinations_of_others_are_no_loss(seed: int) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    with torch.no_grad():  # units 4 and 5 are any combination of units 0 to 3, and a constant
        model[0].weight[4:] = torch.randn(2, 4) @ model[0].weight[:4]
    repeated(model, "1", {2: (0, 0.5)})
    case = cut(model, torch.randn(64, 4), {"0": [4, 5], "1": [2]})
    least_squares(case.small, case.model, case.plan, case.data, ridge=0)
    torch.testing.assert_close(case.small(case.x), case.model(case.x), rtol=1e-6, atol=1e-6)


def test_multiples_in_a_residual_network_are_no_loss() -> None:
    case = CASES["residual"]()
    stream = next(
        g for g in case.plan.groups if "stage1.0.conv2.weight" in {m.name for m in g.members}
    )
    with torch.no_grad():
        for member in stream.members:  # the whole stream: channel 3 is twice channel 1
            tensor = named_tensors(case.model)[member.name]
            if member.role is sec.types.Role.WRITES or tensor.dim() == 1:
                tensor[3] = tensor[1]
                if member.name.split(".")[-2].startswith("bn") and member.name.endswith(
                    ("weight", "bias")
                ):
                    tensor[3] *= 2
    removed = {stream.name: [3]}
    case = cut(case.model, torch.randn(64, 1, 8, 8), removed)
    assert not torch.allclose(case.small(case.x), case.model(case.x), atol=1e-3)
    least_squares(case.small, case.model, case.plan, case.data, ridge=0)
    torch.testing.assert_close(case.small(case.x), case.model(case.x), rtol=1e-6, atol=1e-6)
    recalibrate(case.small, case.data)
    dense = copy.deepcopy(case.model)
    recalibrate(dense, case.data)
    torch.testing.assert_close(case.small(case.x), dense(case.x), rtol=1e-6, atol=1e-6)


@given(st.integers(0, 10_000), st.sampled_from([0.0, 1e-4, 1e-2, 1.0, 100.0]))
def test_the_last_layer_never_gets_further_from_the_dense_outputs(seed: int, ridge: float) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
    case = cut(model, torch.randn(60, 5))
    before = (case.small(case.x) - case.model(case.x)).square().sum()
    least_squares(case.small, case.model, case.plan, case.data, ridge=ridge)
    assert (case.small(case.x) - case.model(case.x)).square().sum() <= before * (1 + 1e-9)


def test_a_strong_ridge_holds_weights_where_they_are() -> None:
    case = flattened()
    folded = copy.deepcopy(case.small)
    least_squares(case.small, case.model, case.plan, case.data, ridge=1e12)
    before = sec.shrink(case.model, case.plan).state_dict()
    for name in ("conv2.weight", "fc.weight"):
        torch.testing.assert_close(case.small.state_dict()[name], before[name], atol=1e-9, rtol=0)
    # all that is left to move is the constant, and there the first layer's best is the mean
    fold_means(folded, case.model, case.plan, case.data)
    torch.testing.assert_close(
        case.small.state_dict()["conv2.bias"], folded.state_dict()["conv2.bias"]
    )


def test_folding_first_does_not_matter_without_a_ridge() -> None:
    case = CASES["residual"]()
    folded = copy.deepcopy(case.small)
    fold_means(folded, case.model, case.plan, case.data)
    least_squares(folded, case.model, case.plan, case.data, ridge=0)
    least_squares(case.small, case.model, case.plan, case.data, ridge=0)
    torch.testing.assert_close(folded(case.x), case.small(case.x), rtol=1e-6, atol=1e-6)
    before = everything(case.small)
    least_squares(case.small, case.model, case.plan, case.data, ridge=0)  # it is solved already
    for name, values in case.small.state_dict().items():
        torch.testing.assert_close(values, before[name], rtol=1e-6, atol=1e-6)


def test_inputs_that_do_not_vary_move_the_constant_alone() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 2))
    case = cut(model, torch.randn(1, 3).repeat(8, 1), {"0": [1]})
    before = everything(case.small)
    least_squares(case.small, case.model, case.plan, case.data, ridge=0)
    assert differing(case.small, before) == {"2.bias"}
    torch.testing.assert_close(case.small(case.x), case.model(case.x))


def test_without_a_ridge_an_open_choice_is_an_error_and_nothing_has_changed() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 2))
    with torch.no_grad():
        model[2].weight[:, 1] = 0  # so that the first consumer loses nothing
    repeated(model, "2", {0: (1, 1.0)})  # equal inputs of the last layer, and both stay
    case = cut(model, torch.randn(64, 3), {"0": [1], "2": [5]})
    before, solved = state_of(case.small), []
    with pytest.raises(DataError, match="depend on each other") as caught:
        least_squares(case.small, case.model, case.plan, case.data, ridge=0,
                      progress=lambda done, _of: solved.append(done))  # fmt: skip
    assert solved == [1]
    assert caught.value.where == "4"
    assert "ridge" in caught.value.hint
    assert same_state(case.small, before)
    assert len(least_squares(case.small, case.model, case.plan, case.data).changed) == 2


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide, self.again, self.head = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.wide(x))
        out: Tensor = self.head(F.relu(self.again(F.relu(self.again(x)))))
        return out


def test_a_layer_that_runs_twice_is_left() -> None:
    case = cut(Twice(), torch.randn(32, 4))
    done = least_squares(case.small, case.model, case.plan, case.data)
    assert list(done.changed) == ["head"]
    assert "runs 2 times" in done.left["again"]


class Forgiving(nn.Module):
    """Takes any error inside for a reason to go another way."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.read = nn.Linear(4, 6), nn.Linear(6, 2)
        self.failed = 0

    def forward(self, x: Tensor) -> Tensor:
        try:
            x = self.read(F.relu(self.wide(x)))
        except Exception:  # noqa: BLE001
            self.failed += 1
        return x


def test_a_network_that_handles_errors_sees_none() -> None:
    case = cut(Forgiving(), torch.randn(32, 4))
    assert least_squares(case.small, case.model, case.plan, case.data).changed
    assert (case.model.failed, case.small.failed) == (0, 0)


class Empty(nn.Module):
    """A layer that is given sequences of no steps."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.read = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.read(F.relu(self.wide(x))).sum(1))


def test_a_layer_that_is_given_nothing_is_left() -> None:
    case = cut(Empty(), torch.randn(8, 3, 4))
    before = everything(case.small)
    for repair in (least_squares, fold_means):
        done = repair(case.small, case.model, case.plan, [torch.zeros(8, 0, 4).double()])
        assert "given nothing" in done.left["read"]
    assert not differing(case.small, before)


class Sometimes(nn.Module):
    """A layer that not every batch reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.rare, self.never = nn.Linear(4, 6), nn.Linear(6, 2), nn.Linear(6, 2)
        self.wanted = True

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.wide(x))
        out: Tensor = self.rare(x) if len(x) > 8 else x[:, :1]
        return out + self.never(x) if self.wanted else out


def test_layers_that_do_not_always_run() -> None:
    case = cut(Sometimes(), torch.randn(32, 4))
    # the trace saw the layer that the batches do not reach
    groups = sec.groups(case.model, case.x)
    plan = sec.Plan(groups, {g.name: torch.arange(g.size) > 0 for g in groups})
    small, x = sec.shrink(case.model, plan), case.x
    case.model.wanted = small.wanted = False  # type: ignore[assignment]
    done = least_squares(small, case.model, plan, [x, x[:4]])
    assert list(done.changed) == ["rare"]
    assert done.left["never"] == "it did not run as a layer"
    assert "never" in fold_means(small, case.model, plan, [x]).left


def test_the_dense_network_labels_and_random_numbers_are_left_alone() -> None:
    case = flattened()
    case.model.train()
    case.small.train()
    before, random = state_of(case.model), torch.get_rng_state()
    flags = state_of(case.small)
    labelled = [(x, torch.full((7,), -3)) for x in case.data]
    least_squares(case.small, case.model, case.plan, labelled)
    assert same_state(case.model, before)
    assert hooks(case.model) == hooks(case.small) == 0
    assert torch.equal(torch.get_rng_state(), random)
    after = state_of(case.small)
    assert all(after[key] == flags[key] for key in ("identities", "training", "frozen"))
    again = sec.shrink(case.model, case.plan)
    least_squares(again, case.model, case.plan, case.data)
    assert not differing(again, everything(case.small))  # bit for bit


def test_other_numbers_than_float64() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        case = flattened()
        model, x = case.model.to(dtype), case.x.to(dtype)
        small = sec.shrink(model, case.plan)
        before = (small(x) - model(x)).square().mean()
        done = least_squares(small, model, case.plan, list(x.split(80)))
        assert len(done.changed) == 2
        assert (small(x) - model(x)).square().mean() < 0.7 * before
        assert all(p.dtype == dtype for p in small.parameters())
        rebuilt = sec.shrink(model, case.plan)
        fill(rebuilt, named_tensors(small))
        assert torch.equal(rebuilt(x), small(x))


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda data: [], "no batch"),
        (lambda data: [*data, torch.full_like(data[0], float("nan"))], "NaN"),
        (lambda data: [*data, data[0][:, :2]], "does not run"),
        (lambda data: data[0], "iterable of batches"),
        (iter, "only once"),
        (lambda data: (x for x in data), "only once"),
    ],
)
def test_bad_data_changes_nothing(spoil: Any, what: str) -> None:
    case = flattened()
    before, dense = state_of(case.small), state_of(case.model)
    with pytest.raises(DataError, match=what):
        least_squares(case.small, case.model, case.plan, spoil(case.data))
    assert same_state(case.small, before)
    assert same_state(case.model, dense)
    assert hooks(case.model) == hooks(case.small) == 0


def test_an_interruption_changes_nothing() -> None:
    case = flattened()
    before = state_of(case.small)

    def interrupt(done: int, _of: int) -> None:
        assert done == 1
        assert not same_state(case.small, before)  # the first layer has been solved
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        least_squares(case.small, case.model, case.plan, case.data, progress=interrupt)
    assert same_state(case.small, before)


def test_outputs_that_are_not_finite() -> None:
    case = flattened()
    with torch.no_grad():
        case.model.get_parameter("fc.bias")[0] = float("nan")
    before = everything(case.small)
    with pytest.raises(DataError, match="not finite") as caught:
        least_squares(case.small, case.model, case.plan, case.data)
    assert caught.value.where == "fc"
    assert not differing(case.small, before)


def test_a_network_that_takes_other_places_once_it_is_smaller() -> None:
    class Cropped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv1d(1, 6, 1), nn.Conv1d(6, 2, 1)
            self.whole = True

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.one(x))
            out: Tensor = self.two(x if self.whole else x[..., 1:])
            return out.mean(2)

    case = cut(Cropped(), torch.randn(8, 1, 5))
    case.small.whole = False  # type: ignore[assignment]
    before = everything(case.small)
    done = least_squares(case.small, case.model, case.plan, case.data)
    assert done.left == {"two": "it works at other positions in the small network"}
    assert not differing(case.small, before)


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"ridge": -1e-3}, "ridge"),
        ({"ridge": float("nan")}, "ridge"),
        ({"ridge": float("inf")}, "ridge"),
        ({"memory": 0}, "memory"),
        ({"batches": 0}, "batches"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], where: str) -> None:
    case = flattened()
    with pytest.raises(OptionError) as caught:
        least_squares(case.small, case.model, case.plan, case.data, **options)
    assert caught.value.where == where


def test_networks_and_plans_that_do_not_belong_together() -> None:
    case, other = flattened(), CASES["residual"]()
    for trio in ((other.small, case.model, case.plan), (case.small, other.model, case.plan),
                 (case.model, case.model, case.plan)):  # fmt: skip
        with pytest.raises(PlanError):
            least_squares(*trio, case.data)
    groups = sec.groups(case.model, case.x[:2], sec.Kernels())
    masks = {group.name: torch.arange(group.size) % 3 > 0 for group in groups}
    plan = sec.Plan(groups, masks)
    with pytest.raises(OptionError, match="masked, not cut"):
        least_squares(sec.shrink(case.model, plan), case.model, plan, case.data)


def test_as_many_batches_as_asked_for() -> None:
    case = flattened()
    few = sec.shrink(case.model, case.plan)
    least_squares(case.small, case.model, case.plan, case.data, batches=2)
    least_squares(few, case.model, case.plan, case.data[:2])
    assert not differing(few, everything(case.small))

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import secateur as sec
from secateur.errors import DataError, OptionError, ScoreError
from secateur.saliency import Magnitude, Relevance, add, finish, merge, observe, score
from secateur.saliency.lrp import (
    LRP,
    Effects,
    Epsilon,
    GradTimesActivation,
    Predicted,
    TrueLabel,
    ZPlus,
)
from secateur.types import Groups
from tests.handmade import Net, channels, data, inside, net, same_state, state_of
from tests.saliency import unrolled
from tests.saliency.cases import KINDS, NAMES, case, close, slices, tensor_of
from tests.saliency.explain import effects, of_weights


class Transposed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(4, 6, 3, stride=2)
        self.both = nn.ConvTranspose2d(6, 6, 2, groups=2)
        self.each, self.fc = nn.Conv2d(6, 6, 3, groups=6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.each(self.both(self.up(x).relu()).relu()).relu()
        out: Tensor = self.fc(x.mean((2, 3)))
        return out


def example_of(name: str, kind: str) -> tuple[nn.Module, Groups, Tensor]:
    if name != "transposed":
        found = case(name, kind)
        return found.model, found.groups, found.inputs()
    model, x = Transposed().double(), torch.randn(2, 4, 5, 5, dtype=torch.float64)
    return model, sec.groups(model, x, KINDS[kind]), x


COVERED = [
    pytest.param(name, kind, id=f"{name}-{kind}")
    for name in ("transposed", *NAMES)
    for kind in KINDS
    if name not in ("transposed_conv", "lstm", "einsum_loose_weight")
    and (name, kind) != ("repvgg", "block")  # an odd number of inputs: there are no pairs
]


def unit_by_unit(
    model: nn.Module, groups: Groups, found: dict[str, Effects]
) -> dict[str, list[float]]:
    """The relevance of every weight as a tensor, summed over the weights of each unit."""
    sums = {group.name: [0.0] * group.size for group in groups}
    for group in groups:
        for member in group.members:
            if member.role.value == "writes" and member.name in found:
                dense = of_weights(found[member.name], tuple(tensor_of(model, member.name).shape))
                for unit, part in slices(dense, member):
                    if unit >= 0:
                        sums[group.name][unit] += float(part.sum())
    return sums


@pytest.mark.parametrize(("name", "kind"), COVERED)
def test_a_unit_is_the_sum_of_its_weights(name: str, kind: str) -> None:
    model, groups, inputs = example_of(name, kind)
    scores = score(model, groups, [inputs], Relevance())["relevance"]
    for group, row in unit_by_unit(model, groups, effects(LRP(), model, inputs)).items():
        close(scores[group], [each / len(inputs) for each in row])
        assert bool(scores[group].any())


def test_single_weights_by_the_definition() -> None:
    """From images to scores without any of our own code: one connection at a time."""
    model = nn.Sequential(
        nn.Conv2d(2, 3, 2, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3)
    )
    model = model.double().requires_grad_(False)
    x = torch.randn(4, 2, 3, 3, dtype=torch.float64)
    groups = sec.groups(model, x, sec.Weights())
    found = score(model, groups, [x[:1], x[1:]], Relevance(ZPlus(1e-12)))
    told = "rule=ZPlus(eps=1e-12), target=Predicted(), signed=False, per_position=False"
    assert found.about["relevance"] == f"Relevance({told})"
    hidden = model[0](x)
    logits = model(x)
    relevance = logits * (logits == logits.max(1, keepdim=True).values)
    flat = hidden.relu().flatten(1)
    of_flat = unrolled.back(model[3], flat, logits, relevance, unrolled.z_plus(0.0))
    last = unrolled.of_weights(model[3], flat, logits, of_flat, relevance)
    of_hidden = of_flat.reshape(hidden.shape)
    of_x = unrolled.back(model[0], x, hidden, of_hidden, unrolled.z_plus(0.0))
    first = unrolled.of_weights(model[0], x, hidden, of_x, of_hidden)
    scores = found["relevance"]
    close(scores["0"], (first / 4).flatten().tolist())
    close(scores["3"], (last / 4).flatten().tolist())


def test_two_vectors_a_layer_are_remembered() -> None:
    model = net()
    weights = inside(model, "weight")
    for group in weights:
        state = Relevance().start(group)
        (member,) = group.members
        o, i, *kernel = member.shape
        kept = sum(tensor.numel() for tensor in state.values())
        assert kept <= 2 + o + i * math.prod(kernel) + (o * math.prod(kernel) if kernel else 0)
        assert all(tensor.dtype == torch.float64 for tensor in state.values())
    for group in channels(model):
        state = Relevance().start(group)
        assert sum(tensor.numel() for tensor in state.values()) <= 2 + group.size


def test_relevance_is_additive_over_rows_and_columns() -> None:
    model = net().double()
    batches = [x.double() for x, _ in data()]
    for signed in (False, True):
        scores = score(model, inside(model, "weight"), batches, Relevance(signed=signed))
        for name in ("conv1", "conv2", "fc"):
            shape = model.get_parameter(f"{name}.weight").shape
            r = scores["relevance"][name].reshape(shape[0], -1).double()
            crossed = r[0, 0] + r[1:, 1:] - r[1:, :1] - r[:1, 1:]
            assert float(crossed.abs().max()) < 1e-6 * float(r.abs().max())


@pytest.mark.parametrize("kind", ["channel", "weight", "kernel"])
@pytest.mark.parametrize("rule", [ZPlus(), Epsilon(), GradTimesActivation()], ids=str)
def test_any_split_gives_the_same(kind: str, rule: Any) -> None:
    model = net().double()
    groups = channels(model) if kind == "channel" else inside(model, kind)
    images = torch.cat([x for x, _ in data()]).double()
    saliency = Relevance(rule)
    whole = score(model, groups, [images], saliency)["relevance"]
    parts = [
        observe(model, groups, list(images[a:b].split(2)), saliency) for a, b in ((0, 5), (5, 12))
    ]
    merged = finish(merge(*parts), groups, saliency)["relevance"]
    for name, expected in whole.items():
        torch.testing.assert_close(merged[name], expected, rtol=1e-6, atol=1e-12)


def test_states_of_nothing_add_nothing() -> None:
    model = net()
    groups = inside(model, "weight")
    states = observe(model, groups, [data()[0][0]], Relevance())["relevance"]
    for group in groups:
        both = add(Relevance().start(group), states[group.name])
        assert all(torch.equal(both[key], states[group.name][key]) for key in both)


def test_permuting_channels_permutes_scores() -> None:
    model, x = net().double(), data()[0][0].double()
    groups = channels(model)
    before = score(model, groups, [x], Relevance())["relevance"]
    order = torch.randperm(6)
    with torch.no_grad():
        for tensor in (*model.conv1.parameters(), *model.bn.parameters(), *model.bn.buffers()):
            if tensor.dim():
                tensor.copy_(tensor[order].clone())
        model.conv2.weight.copy_(model.conv2.weight[:, order].clone())
    after = score(model, groups, [x], Relevance())["relevance"]
    torch.testing.assert_close(after["conv1"], before["conv1"][order])
    torch.testing.assert_close(after["conv2"], before["conv2"])


def test_a_dead_channel_scores_least() -> None:
    """Its own relevance is zero; what is left is that of what it reads, as for all the others."""
    model = net()
    with torch.no_grad():
        model.conv2.weight[3] = 0
        model.conv2.bias[3] = -1
    found = score(model, channels(model), [data()[0][0]], Relevance())["relevance"]["conv2"]
    assert int(found.argmin()) == 3
    reads = effects(LRP(), model, data()[0][0])["conv2.weight"].columns.sum() / 4
    assert float(found[3]) == pytest.approx(float(reads), rel=1e-6)


def test_per_position_is_a_mean() -> None:
    model, x = net(), data()[0][0]
    scores = score(
        model,
        inside(model, "weight"),
        [x],
        {"sum": Relevance(), "mean": Relevance(per_position=True)},
    )
    for name, positions in (("conv1", 16), ("conv2", 16), ("fc", 1)):
        torch.testing.assert_close(scores["mean"][name] * positions, scores["sum"][name])


def test_what_asks_the_same_shares_one_pass() -> None:
    model, ran = net(), []
    model.register_forward_hook(lambda *_: ran.append(1))
    several = {
        "a": Relevance(),
        "b": Relevance(per_position=True),
        "c": Relevance(target=Predicted()),
        "m": Magnitude(),
    }
    score(model, channels(model), [data()[0][0]], several)
    assert len(ran) == 1
    score(model, channels(model), [data()[0][0]], several | {"d": Relevance(signed=True)})
    assert len(ran) == 3


def test_labels_are_needed_only_where_they_are_explained() -> None:
    model, (x, y) = net(), data()[0]
    by_label = score(model, channels(model), [(x, y)], Relevance(target=TrueLabel()))["relevance"]
    guessed = score(model, channels(model), [x], Relevance())["relevance"]
    with torch.no_grad():
        predicted = model.eval()(x).argmax(1)
    same = score(model, channels(model), [(x, predicted)], Relevance(target=TrueLabel()))
    for name in guessed:
        torch.testing.assert_close(same["relevance"][name], guessed[name])
        assert not torch.allclose(by_label[name], guessed[name])
    with pytest.raises(DataError, match="no labels to explain"):
        score(model, channels(model), [x], Relevance(target=TrueLabel()))


def test_the_network_is_left_as_it_was() -> None:
    model = net().train()
    model.conv1.weight.requires_grad_(False)
    model.fc.weight.grad = torch.ones_like(model.fc.weight)
    before = state_of(model)
    with torch.inference_mode():
        score(model, channels(model), data(), Relevance())
    score(model, channels(model), data(), Relevance())
    assert same_state(model, before)


def test_frozen_weights_are_scored_like_others() -> None:
    model = net()
    free = score(model, channels(model), data(), Relevance())["relevance"]
    model.requires_grad_(False)
    frozen = score(model, channels(model), data(), Relevance())["relevance"]
    assert all(torch.equal(free[name], frozen[name]) for name in free)


@pytest.mark.parametrize("name", ["lstm", "einsum_loose_weight"])
def test_units_that_no_layer_writes_have_no_relevance(name: str) -> None:
    found = case(name)
    with pytest.raises(ScoreError, match="no Linear layer or convolution") as caught:
        score(found.model, found.groups, [found.inputs()], Relevance())
    assert "keep=" in caught.value.hint


def test_outputs_that_are_no_logits() -> None:
    class Maps(nn.Module):
        def __init__(self, inner: Net) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.inner.conv2(self.inner.bn(self.inner.conv1(x)))
            return out

    model = Maps(net())
    groups = sec.groups(model, data()[0][0], sec.Channels())
    with pytest.raises(DataError, match=r"logits of shape \(4, classes\)") as caught:
        score(model, groups, [data()[0][0]], Relevance())
    assert caught.value.where == "batch 0"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "zplus"}, "is no rule"),
        ({"rule": ZPlus}, "is no rule"),
        ({"target": 3}, "is no target"),
        ({"signed": 1}, "signed is True or False"),
        ({"per_position": None}, "per_position is True or False"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Relevance(**options)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", ["channel", "weight"])
def test_the_device_follows_the_model(kind: str) -> None:
    model, batches = net().double(), [x.double() for x, _ in data()]
    groups = channels(model) if kind == "channel" else inside(model, kind)
    here = score(model, groups, batches, Relevance())["relevance"]
    there = score(model.cuda(), groups, batches, Relevance())["relevance"]
    for name, expected in here.items():
        torch.testing.assert_close(there[name], expected)

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from secateur.errors import OptionError
from secateur.saliency.lrp import (
    LRP,
    Epsilon,
    EpsilonPlus,
    GradTimesActivation,
    Predicted,
    Rule,
    ZPlus,
)
from secateur.saliency.lrp.layer import Layer
from tests.saliency import unrolled
from tests.saliency.explain import effects, logit, of_weights, only

TIGHT = 1e-12  # for float64, where a rule is compared with its limit
RULES: list[Rule] = [Epsilon(TIGHT), ZPlus(TIGHT), EpsilonPlus(TIGHT)]


def linear(weight: list[list[float]], bias: list[float] | None = None) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight), bias=bias is not None)
    layer.weight.data = torch.tensor(weight)
    if bias is not None:
        layer.bias.data = torch.tensor(bias)
    return layer


def test_epsilon_by_hand() -> None:
    """y = (3*1 - 1*2, ...): logit 1 = 5 is explained, and its inputs have 2 * 1 and 1 * 3 of it."""
    layer = linear([[3.0, -1.0], [2.0, 3.0 / 2]])
    ((of_x, of_y),) = only(LRP(Epsilon(TIGHT)), layer, torch.tensor([[1.0, 2.0]])).values()
    torch.testing.assert_close(of_y, torch.tensor([[0.0, 5.0]]))
    torch.testing.assert_close(of_x, torch.tensor([[2.0, 3.0]]))


def test_the_bias_keeps_its_part() -> None:
    layer = linear([[2.0, 3.0]], [5.0])
    ((of_x, of_y),) = only(LRP(Epsilon(TIGHT)), layer, torch.tensor([[1.0, 1.0]])).values()
    assert of_y.tolist() == [[10.0]]
    torch.testing.assert_close(of_x, torch.tensor([[2.0, 3.0]]))
    ((of_x, _),) = only(LRP(ZPlus(TIGHT)), layer, torch.tensor([[1.0, 1.0]])).values()
    torch.testing.assert_close(of_x, torch.tensor([[2.0, 3.0]]))


def test_z_plus_by_hand() -> None:
    """y = 4 - 2 + 2 = 4, of which 4 and 2 pull up; a negative bias takes no part."""
    x = torch.tensor([[1.0, 2.0, -1.0]])
    for bias in (None, [-1.0]):
        layer = linear([[4.0, -1.0, -2.0]], bias)
        ((of_x, of_y),) = only(LRP(ZPlus(TIGHT)), layer, x).values()
        y = float(of_y)
        assert y == (4.0 if bias is None else 3.0)
        torch.testing.assert_close(of_x, torch.tensor([[4.0, 0.0, 2.0]]) * y / 6)


def test_a_row_and_a_column_make_a_weight() -> None:
    """Two samples; the second's logit is negative, and counts by its size."""
    layer = linear([[1.0, -3.0]])
    x = torch.tensor([[2.0, 0.0], [1.0, 1.0]])
    found = effects(LRP(Epsilon(TIGHT)), layer, x)["weight"]
    assert found.positions == 1
    torch.testing.assert_close(found.rows, torch.tensor([[2.0 + 2.0]]).double())
    torch.testing.assert_close(found.columns, torch.tensor([[2.0 + 1.0, 3.0]]).double())
    signed = effects(LRP(Epsilon(TIGHT), signed=True), layer, x)["weight"]
    torch.testing.assert_close(signed.rows, torch.tensor([[2.0 - 2.0]]).double())
    torch.testing.assert_close(signed.columns, torch.tensor([[2.0 + 1.0, -3.0]]).double())


def small(bias: bool = True) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=bias),
        nn.ReLU(),
        nn.Conv2d(3, 2, 2, bias=bias),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8, 3, bias=bias),
    ).double()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rule", [Epsilon(TIGHT), ZPlus(TIGHT), EpsilonPlus(TIGHT)], ids=str)
def test_it_agrees_with_the_slow_twin(rule: Rule, bias: bool) -> None:
    model = small(bias)
    images = torch.randn(2, 2, 5, 5, dtype=torch.float64)
    found = only(LRP(rule), model, images)
    summed = effects(LRP(rule), model, images)
    seen = [images]
    for layer in model:
        seen.append(layer(seen[-1]))
    logits = seen[-1]
    relevance = logits * (logits == logits.max(1, keepdim=True).values)
    for place in reversed(range(len(model))):
        layer, x, y = model[place], seen[place], seen[place + 1]
        if isinstance(layer, nn.ReLU | nn.Flatten):
            relevance = relevance.reshape(x.shape)
            continue
        plain = isinstance(rule, Epsilon) or (
            isinstance(rule, EpsilonPlus) and isinstance(layer, nn.Linear)
        )
        shares = unrolled.epsilon(0.0) if plain else unrolled.z_plus(0.0)
        of_x = unrolled.back(layer, x, y, relevance, shares)
        name = f"{place}.weight"
        torch.testing.assert_close(found[name][1], relevance, rtol=1e-6, atol=1e-10)
        torch.testing.assert_close(found[name][0], of_x, rtol=1e-6, atol=1e-10)
        twin = unrolled.of_weights(layer, x, y, of_x, relevance)
        ours = of_weights(summed[name], tuple(layer.weight.shape))
        torch.testing.assert_close(ours, twin, rtol=1e-6, atol=1e-10)
        relevance = of_x


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_relevance_is_conserved_from_layer_to_layer(rule: Rule) -> None:
    """Without biases: what each layer gives away is what it got, for every sample."""
    model, images = small(bias=False), torch.randn(4, 2, 5, 5, dtype=torch.float64)
    if not isinstance(rule, Epsilon):
        for layer in model:  # z-plus needs something that pulls up
            if not isinstance(layer, nn.ReLU | nn.Flatten):
                layer.weight.data[:, ::2].abs_()
    found = only(LRP(rule), model, images)
    with torch.no_grad():
        total = model(images).max(1).values
    assert len(found) == 3
    for of_x, of_y in found.values():
        torch.testing.assert_close(of_x.flatten(1).sum(1), total, rtol=1e-7, atol=1e-9)
        torch.testing.assert_close(of_y.flatten(1).sum(1), total, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("rule", [*RULES, GradTimesActivation()], ids=str)
def test_a_dead_input_has_no_relevance(rule: Rule) -> None:
    model = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 3)).double()
    x = torch.rand(6, 4, dtype=torch.float64)
    x[:, 1] = 0
    model[0].weight.data[2], model[0].bias.data[2] = 0, -1
    found = effects(LRP(rule), model, x)
    assert found["0.weight"].columns[0, 1] == 0
    assert found["0.weight"].rows[2, 0] == 0
    assert found["2.weight"].columns[0, 2] == 0
    assert int((found["0.weight"].columns == 0).sum()) == 1


def test_epsilon_becomes_gradient_times_activation() -> None:
    """For eps towards zero, and by autograd itself, on a network of ReLU, pooling and sums."""

    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.side = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(2, 4, 1)
            self.pool, self.fc = nn.MaxPool2d(2), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            both = self.pool((self.conv(x).relu() + self.side(x)).relu())
            out: Tensor = self.fc(nn.functional.avg_pool2d(both, 2).flatten(1))
            return out

    model = Branches().double()
    images = torch.randn(3, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    (slopes,) = torch.autograd.grad(model(images).max(1).values.sum(), images)
    plain = only(LRP(GradTimesActivation()), model, images.detach())
    limit = only(LRP(Epsilon(1e-13)), model, images.detach())
    both = plain["conv.weight"][0] + plain["side.weight"][0]
    torch.testing.assert_close(both, (slopes * images).detach())
    for name, tensors in plain.items():
        for a, b in zip(tensors, limit[name], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-10)


@given(seed=st.integers(0, 10_000), scale=st.floats(0.01, 100), plus=st.booleans())
def test_rescaling_a_layer_changes_nothing(seed: int, scale: float, plus: bool) -> None:
    """eps counts in the layer's own size; the logits themselves are left as they are."""
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 6, bias=False), nn.ReLU(), nn.Linear(6, 3, bias=False))
    model = model.double()
    for layer in (model[0], model[2]):
        layer.weight.data.normal_(generator=generator)
    x = torch.rand(3, 4, dtype=torch.float64, generator=generator)
    lrp = LRP(ZPlus(0.01) if plus else Epsilon(0.01))
    before = effects(lrp, model, x)
    model[0].weight.data *= scale
    model[2].weight.data /= scale
    for name, found in effects(lrp, model, x).items():
        torch.testing.assert_close(found.rows, before[name].rows, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(found.columns, before[name].columns, rtol=1e-9, atol=1e-12)


def test_z_plus_of_what_nothing_pulls_up_is_finite() -> None:
    model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False))
    for layer in model:
        layer.weight.data = -layer.weight.data.abs()
    found = effects(LRP(ZPlus()), model, torch.rand(2, 3))
    assert all(bool(torch.isfinite(e.rows + e.columns).all()) for e in found.values())
    zero = effects(LRP(ZPlus()), model, torch.zeros(2, 3))
    assert all(not bool((e.rows + e.columns).any()) for e in zero.values())
    zero = effects(LRP(Epsilon()), model, torch.zeros(2, 3))
    assert all(not bool((e.rows + e.columns).any()) for e in zero.values())


def test_any_split_of_the_data_gives_the_same() -> None:
    model, images = small(), torch.randn(6, 2, 5, 5, dtype=torch.float64)
    for rule in (EpsilonPlus(0.05), Epsilon(0.05), ZPlus(0.05), GradTimesActivation()):
        whole = effects(LRP(rule), model, images)
        parts = [effects(LRP(rule), model, part) for part in images.split([1, 3, 2])]
        for name, expected in whole.items():
            rows = sum(part[name].rows for part in parts)
            columns = sum(part[name].columns for part in parts)
            torch.testing.assert_close(rows, expected.rows, rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(columns, expected.columns, rtol=1e-10, atol=1e-12)


def test_half_precision_is_summed_in_more() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
    images = torch.rand(2, 1, 8, 8)
    expected = effects(LRP(), model, images)
    found = effects(LRP(), model.bfloat16(), images.bfloat16())
    for name in expected:
        torch.testing.assert_close(found[name].rows, expected[name].rows, rtol=0.1, atol=1e-3)
        assert found[name].rows.dtype == torch.float64


def test_relevance_begins_as_the_logit() -> None:
    model, images = small(), torch.randn(3, 2, 5, 5, dtype=torch.float64)
    (_, of_y) = only(LRP(), model, images)["5.weight"]
    assert float(of_y.sum()) == pytest.approx(float(logit(model, images)))
    assert int((of_y != 0).sum()) == 3


@pytest.mark.parametrize("rule", [Epsilon, ZPlus, EpsilonPlus])
@pytest.mark.parametrize("eps", [0.0, -1e-6, 1.0, float("nan"), float("inf")])
def test_eps_is_small_and_positive(rule: type, eps: float) -> None:
    with pytest.raises(OptionError, match="eps must lie between 0 and 1"):
        rule(eps)


@pytest.mark.parametrize("wrong", [Epsilon, "epsilon", None, Predicted()])
def test_a_rule_is_a_value(wrong: object) -> None:
    with pytest.raises(OptionError, match="is no rule"):
        LRP(wrong)
    with pytest.raises(OptionError, match="is no target"):
        LRP(target=wrong if not isinstance(wrong, Predicted) else Epsilon())


def test_a_rule_of_ones_own() -> None:
    """The gamma rule, as a value in a few lines: between epsilon (gamma = 0) and z-plus."""

    @dataclass(frozen=True, slots=True)
    class Gamma(Rule):
        gamma: float

        def share(self, layer: Layer, x: Tensor, y: Tensor, c: Tensor) -> Tensor:
            weight = layer.weight + self.gamma * layer.weight.clamp(min=0)
            z = layer.forward(x, weight, None)
            return layer.backward(c * y / z, x, weight)

    model, x = nn.Linear(4, 3, bias=False).double(), torch.rand(5, 4, dtype=torch.float64)
    model.weight.data[:, 0].abs_()

    def seen(rule: Rule) -> Tensor:
        return only(LRP(rule), model, x)["weight"][0]

    torch.testing.assert_close(seen(Gamma(0.0)), seen(Epsilon(TIGHT)))
    torch.testing.assert_close(seen(Gamma(1e9)), seen(ZPlus(TIGHT)), rtol=1e-6, atol=1e-8)


def test_a_rule_without_a_hash_is_refused() -> None:
    @dataclass
    class Loose(Rule):
        def share(self, layer: Layer, x: Tensor, y: Tensor, c: Tensor) -> Tensor:
            return x

    with pytest.raises(OptionError, match="is not hashable"):
        LRP(Loose())


def test_equal_questions_are_one() -> None:
    assert LRP() == LRP(EpsilonPlus(1e-6), Predicted(), signed=False)
    assert len({LRP(), LRP(), LRP(ZPlus())}) == 2

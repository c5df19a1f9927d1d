from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import secateur as sec
from secateur.errors import ScoreError
from secateur.saliency import score
from secateur.saliency.wanda import Wanda
from tests.handmade import data, inside, net, same_state, state_of
from tests.saliency.cases import case, close, slices

CONVOLUTIONS = [
    nn.Conv1d(4, 6, 3, stride=2, padding=1),
    nn.Conv2d(4, 6, (3, 2), stride=(1, 2), padding=(1, 2), dilation=(2, 1)),
    nn.Conv2d(4, 6, 3, padding="same", bias=False),
    nn.Conv2d(4, 6, (2, 3), padding="same", padding_mode="circular"),
    nn.Conv2d(4, 6, 3, groups=2, padding=1),
    nn.Conv2d(4, 8, 3, groups=4, stride=2),
    nn.Conv3d(4, 2, (1, 2, 3)),
    nn.ConvTranspose1d(4, 6, 3, stride=2, output_padding=1),
    nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1),
    nn.ConvTranspose2d(4, 6, 3, groups=2, padding=1),
]


def plain(layer: nn.Module, x: Tensor) -> Tensor:
    """The slow twin: a weight's inputs are what the output's gradient for it is made of.

    One output element at a time: d y / d w is the input that w multiplies there.
    """
    weight: Any = layer.weight
    squares = torch.zeros_like(weight)
    for element in layer(x).flatten():
        squares += torch.autograd.grad(element, weight, retain_graph=True)[0].square()
    return (weight.abs() * (squares / len(x)).sqrt()).detach()


class Around(nn.Module):
    """One layer, and a classifier that nobody looks at."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


@pytest.mark.parametrize("layer", [*CONVOLUTIONS, nn.Linear(4, 6)], ids=str)
def test_it_agrees_with_the_plain_twin(layer: nn.Module) -> None:
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    rest = {1: (5,), 2: (5, 4), 3: (3, 4, 3)}.get(layer.weight.dim() - 2, ())
    model = Around(layer).double().eval()
    x = torch.randn(3, 4, *rest, dtype=torch.float64)
    groups = sec.groups(model, x, sec.Weights())
    found = score(model, groups, [x[:1], x[1:]], Wanda())["wanda"]["layer"]
    close(found, plain(layer, x).flatten().tolist())


def test_every_token_counts() -> None:
    model = Around(nn.Linear(4, 6)).eval()
    x = torch.randn(3, 5, 4)
    groups = sec.groups(model, x, sec.Weights())
    found = score(model, groups, [x], Wanda())["wanda"]["layer"].reshape(6, 4)
    norms = (x.square().sum((0, 1)) / 3).sqrt()
    torch.testing.assert_close(found, (model.layer.weight * norms).abs().detach())


@pytest.mark.parametrize("kind", ["channel", "kernel", "block"])
@pytest.mark.parametrize("name", ["resnext", "transposed_conv", "residual_over_concat"])
def test_other_units_score_the_sum_of_their_weights(name: str, kind: str) -> None:
    made = case(name, kind)
    x = made.inputs()
    found = score(made.model, made.groups, [x], Wanda())["wanda"]
    single = sec.groups(made.model, x, sec.Weights())
    weights = score(made.model, single, [x], Wanda())["wanda"]
    for group in made.groups:
        total = [0.0] * group.size
        for member in group.members:
            if member.role.value == "writes" and len(member.shape) > 1:
                by_weight = weights[member.name.removesuffix(".weight")].reshape(member.shape)
                for unit, part in slices(by_weight, member):
                    total[unit] += float(part.sum()) if unit >= 0 else 0.0
        close(found[group.name], total)


def test_with_inputs_of_one_size_it_is_magnitude() -> None:
    class Signs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.fc(x.sign())
            return out

    model, x = Signs(), torch.randn(7, 8)
    groups = sec.groups(model, x, sec.Weights())
    found = score(model, groups, [x], [Wanda(), sec.Magnitude()])
    torch.testing.assert_close(found["wanda"]["fc"], found["magnitude"]["fc"])


def test_a_weight_that_multiplies_nothing_scores_zero() -> None:
    model = net()
    with torch.no_grad():
        model.bn.bias.fill_(10)  # so that ReLU lets them all pass
        model.bn.weight[2] = model.bn.bias[2] = 0
    found = score(model, inside(model, "weight"), [x for x, _ in data()], Wanda())["wanda"]
    by_weight = found["conv2"].reshape(8, 6, 3, 3)
    assert not by_weight[:, 2].any()
    assert bool((by_weight[:, [0, 1, 3, 4, 5]].amax((0, 2, 3)) > 0).all())


def test_functional_layers_shared_layers_and_attention_are_seen() -> None:
    for name in ("functional_conv", "layer_used_twice", "tied_linears", "multihead_attention"):
        made = case(name, "weight")
        before = state_of(made.model)
        found = score(made.model, made.groups, [made.inputs()], Wanda())["wanda"]
        assert all(bool(row.any()) for row in found.values()), name
        assert same_state(made.model, before)


def test_a_layer_that_runs_twice_counts_both_inputs() -> None:
    made = case("layer_used_twice", "weight")
    x = made.inputs()
    found = score(made.model, made.groups, [x], Wanda())["wanda"]["shared"]
    caught: list[Tensor] = []
    handle = made.model.shared.register_forward_pre_hook(
        lambda _, args: caught.append(args[0].detach())
    )
    made.model(x)
    handle.remove()
    first, second = (plain(made.model.shared, inputs) for inputs in caught)
    close(found, (first.square() + second.square()).sqrt().flatten().tolist())


@pytest.mark.parametrize("name", ["lstm", "einsum_loose_weight"])
def test_other_weights_are_refused_by_name(name: str) -> None:
    made = case(name, "weight")
    with pytest.raises(ScoreError, match="no weight of a Linear layer or convolution") as caught:
        score(made.model, made.groups, [made.inputs()], Wanda())
    assert caught.value.where in {m.name for g in made.groups for m in g.members}

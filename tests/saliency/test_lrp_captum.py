"""Against an established package: captum's LRP, where it covers the same ground.

It knows modules alone (no functional layers, none used twice), no BatchNorm under z-plus, takes the
inputs of z-plus layers to be positive, and gives every term of a sum the whole relevance; so these
networks are chains of modules without BatchNorm, and their images are >= 0.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from captum.attr import LayerLRP
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule
from torch import Tensor, nn

from secateur.saliency.lrp import LRP, Epsilon, EpsilonPlus, Rule, ZPlus
from tests.saliency.explain import effects, only


class Plain(nn.Module):
    def __init__(self, bias: bool, curve: type[nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 5, 3, padding=1, bias=bias)
        self.relu1, self.pool = nn.ReLU(), nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(5, 6, 3, stride=2, bias=bias)
        self.relu2, self.mean = nn.ReLU(), nn.AvgPool2d(2)
        self.fc1, self.curve = nn.Linear(6, 8, bias=bias), curve()
        self.fc2 = nn.Linear(8, 4, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu1(self.conv1(x)))
        x = self.mean(self.relu2(self.conv2(x))).flatten(1)
        out: Tensor = self.fc2(self.curve(self.fc1(x)))
        return out


def captums(model: nn.Module, x: Tensor, plus: bool) -> dict[str, tuple[Tensor, Tensor]]:
    """Relevances of (inputs, outputs) of every layer."""
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for name, layer in model.named_modules():
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        both: list[Any] = []
        for of_input in (True, False):
            for module in model.modules():  # it takes rules away when it is done
                if isinstance(module, nn.Conv2d | nn.Linear):
                    up = plus and isinstance(module, nn.Conv2d)
                    module.rule = Alpha1_Beta0_Rule() if up else EpsilonRule(1e-12)
            target = model(x).argmax(1)
            explain = LayerLRP(model, layer).attribute
            both.append(explain(x.requires_grad_(), target, attribute_to_layer_input=of_input))
        of_x, of_y = (each[0] if isinstance(each, tuple) else each for each in both)
        found[f"{name}.weight"] = (of_x.detach(), of_y.detach())
    return found


@pytest.mark.parametrize("rule", [Epsilon(1e-13), EpsilonPlus(1e-13)], ids=str)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("curve", [nn.ReLU, nn.Tanh])
def test_captum_finds_the_same(rule: Rule, bias: bool, curve: type[nn.Module]) -> None:
    model = Plain(bias, curve).double().eval()
    for name, tensor in model.named_parameters():
        if name.endswith("bias"):
            tensor.data.abs_()  # where z-plus lets a bias take part, captum takes any
    x = torch.rand(3, 2, 10, 10, dtype=torch.float64)
    expected = captums(model, x, plus=not isinstance(rule, Epsilon))
    found = only(LRP(rule), model, x.detach())
    assert found.keys() == expected.keys()
    for name, (of_x, of_y) in found.items():
        scale = float(of_y.abs().max())
        torch.testing.assert_close(of_x, expected[name][0], rtol=1e-5, atol=1e-7 * scale)
        torch.testing.assert_close(of_y, expected[name][1], rtol=1e-5, atol=1e-7 * scale)


def test_the_effects_are_sums_of_captums_relevances() -> None:
    model = Plain(False, nn.ReLU).double().eval()
    x = torch.rand(4, 2, 10, 10, dtype=torch.float64)
    expected = captums(model, x, plus=True)
    for name, found in effects(LRP(EpsilonPlus(1e-13)), model, x.detach()).items():
        of_x, of_y = (each.abs() for each in expected[name])
        layer = model.get_submodule(name.removesuffix(".weight"))
        if isinstance(layer, nn.Conv2d):
            patches = nn.functional.unfold(
                of_x, layer.kernel_size, padding=layer.padding, stride=layer.stride
            )
            of_x, of_y = patches.mT.flatten(0, 1), of_y.movedim(1, -1).flatten(0, 2)
        columns = of_x.sum(0).reshape(1, *layer.weight.shape[1:])
        torch.testing.assert_close(found.columns, columns, rtol=1e-5, atol=1e-9)
        torch.testing.assert_close(found.rows.flatten(), of_y.sum(0), rtol=1e-5, atol=1e-9)


def test_z_plus_on_linear_layers_too() -> None:
    model = nn.Sequential(nn.Linear(6, 9, bias=False), nn.ReLU(), nn.Linear(9, 3, bias=False))
    model, x = model.double(), torch.rand(5, 6, dtype=torch.float64)
    for layer in (model[0], model[2]):
        layer.rule = Alpha1_Beta0_Rule()
    target = model(x).argmax(1)
    expected = LayerLRP(model, model[0]).attribute(
        x.requires_grad_(), target, attribute_to_layer_input=True
    )
    found = only(LRP(ZPlus(1e-13)), model, x.detach())["0.weight"][0]
    torch.testing.assert_close(found, expected.detach(), rtol=1e-6, atol=1e-10)

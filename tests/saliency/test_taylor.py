from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from secateur.saliency import Taylor, score
from secateur.types import Groups
from tests.handmade import Net, channels, data, inside, net


def plain(
    model: Net, groups: Groups, batches: list[tuple[Tensor, Tensor]]
) -> dict[str, list[float]]:
    """The slow twin: one backward a sample, one product at a time."""
    model = model.eval()
    sums = {group.name: [0.0] * group.size for group in groups}
    samples = 0
    for xs, ys in batches:
        for x, y in zip(xs, ys, strict=True):
            samples += 1
            model.zero_grad()
            F.cross_entropy(model(x[None]), y[None]).backward()
            for group in groups:
                for member in group.members:
                    if member.role.value != "writes":
                        continue
                    weight = model.get_parameter(member.name)
                    products = (weight * weight.grad).detach()
                    products = products.movedim(member.dims, tuple(range(len(member.dims))))
                    flat = products.reshape(member.unit_of.numel(), -1)
                    for unit, slice_ in zip(member.unit_of.tolist(), flat, strict=True):
                        sums[group.name][unit] += float(slice_.sum())
    return {name: [abs(s / samples) for s in row] for name, row in sums.items()}


@pytest.mark.parametrize("kind", ["channel", "weight", "kernel"])
def test_it_agrees_with_the_plain_twin(kind: str) -> None:
    model = net().double()
    groups = channels(model) if kind == "channel" else inside(model, kind)
    batches = [(x.double(), y) for x, y in data([3, 1])]
    found = score(model, groups, batches, Taylor(), loss=F.cross_entropy)["taylor"]
    model.drop.p = 0.0
    for name, expected in plain(model, groups, batches).items():
        torch.testing.assert_close(found[name], torch.tensor(expected), rtol=1e-5, atol=1e-12)


def test_it_is_the_change_of_the_loss_to_first_order() -> None:
    model = net().double().eval()
    groups, batches = channels(model), [(x.double(), y) for x, y in data([8])]
    found = score(model, groups, batches, Taylor(), loss=F.cross_entropy)["taylor"]["conv2"]
    (x, y), step = batches[0], 1e-6
    with torch.no_grad():
        before = F.cross_entropy(model(x), y)
        for unit in range(8):
            kept = model.conv2.weight[unit].clone(), model.conv2.bias[unit].clone()
            model.conv2.weight[unit] *= 1 - step
            model.conv2.bias[unit] *= 1 - step
            change = (F.cross_entropy(model(x), y) - before) / step
            model.conv2.weight[unit], model.conv2.bias[unit] = kept
            assert abs(float(change)) == pytest.approx(float(found[unit]), rel=1e-3, abs=1e-7)


def test_the_weight_form_is_the_activation_form_for_convolution_and_relu() -> None:
    model = net().double().eval()
    groups, batches = channels(model), [(x.double(), y) for x, y in data([4])]
    found = score(model, groups, batches, Taylor(), loss=F.cross_entropy)["taylor"]["conv2"]
    x, y = batches[0]
    hidden = F.relu(model.conv2(F.relu(model.bn(model.conv1(x))))).detach().requires_grad_()
    F.cross_entropy(model.fc(hidden.flatten(1)), y).backward()
    expected = (hidden * hidden.grad).sum((0, 2, 3)).abs().detach()
    torch.testing.assert_close(found, expected.float())


def test_a_dead_unit_scores_zero() -> None:
    model = net()
    with torch.no_grad():
        model.conv2.weight[3] = 0
        model.conv2.bias[3] = 0
    found = score(model, channels(model), data(), Taylor(), loss=F.cross_entropy)["taylor"]
    assert found["conv2"][3] == 0
    assert int((found["conv2"] == 0).sum()) == 1

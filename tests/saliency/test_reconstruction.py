"""Properties of methods.md section 3.7 that concern R, its slow twin, and the traps of the package."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur as sec
from secateur.errors import DataError, OptionError, ScoreError
from secateur.saliency import finish, merge, observe, score
from secateur.saliency.reconstruction import Reconstruction
from secateur.saliency.taylor import Taylor
from secateur.types import Group
from tests.handmade import data, example, inside, net
from tests.saliency.cases import Case, case, close
from tests.saliency.places import NAMES, batch, loss, outputs


def plain(made: Case, group: Group, x: Tensor, y: Tensor) -> dict[str, list[float]]:
    """The slow twin: one sample, one place and one element at a time; by the layer that writes."""
    change: dict[str, list[float]] = {}
    for out in outputs(made, group, x, y, first=False):
        layer = change.setdefault(out.writer, [0.0] * group.size)
        layer[out.unit] += sum(a * g for a, g in zip(out.a, out.g, strict=True)) / len(x)
    return change


@pytest.mark.parametrize("name", NAMES)
def test_it_agrees_with_the_plain_twin(name: str) -> None:
    made = case(name)
    x, y = batch(made)
    halves = [(x[:2], y[:2]), (x[2:], y[2:])]
    scores = score(made.model, made.groups, halves, Reconstruction(), loss=loss)
    for group in made.groups:
        change = plain(made, group, x, y)
        close(
            scores["reconstruction"][group.name],
            [abs(sum(parts)) for parts in zip(*change.values(), strict=True)],
        )
        layers = scores.layers.get("reconstruction", {}).get(group.name, {})
        for writer, values in layers.items():
            close(values, [abs(value) for value in change[writer]])
        if layers:
            assert layers.keys() == change.keys()
            assert len(layers) > 1


def plain_chain(*, norm: bool) -> tuple[nn.Sequential, Tensor, Tensor]:
    torch.manual_seed(0)
    between = [nn.BatchNorm2d(6)] if norm else []
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), *between, nn.ReLU(), nn.Flatten(), nn.Linear(6 * 4, 5)
    ).double().eval()  # fmt: skip
    if norm:
        with torch.no_grad():
            for tensor in (model[1].weight, model[1].bias, model[1].running_mean):
                tensor.normal_()
            model[1].running_var.uniform_(0.5, 2.0)
    return model, torch.randn(7, 3, 4, 4, dtype=torch.float64), torch.randint(5, (7,))


def weight_form(model: nn.Sequential, layer: int, x: Tensor, y: Tensor) -> Tensor:
    """| sum w * dL/dw + b * dL/db | of a layer, in the mode that the model is in."""
    weight, bias = model[layer].weight, model[layer].bias
    value = F.cross_entropy(model(x), y)
    slopes = torch.autograd.grad(value, [weight, bias])
    products = [(t * g).detach().flatten(1).sum(1) if t.dim() > 1 else (t * g).detach()
                for t, g in zip((weight, bias), slopes, strict=True)]  # fmt: skip
    return (products[0] + products[1]).abs()


def test_weight_form_pre_activation_form_and_relu_form_are_one_without_a_norm() -> None:
    """Property 6."""
    model, x, y = plain_chain(norm=False)
    groups = sec.groups(model, x)
    found = score(model, groups, [(x, y)], [Reconstruction(), Taylor()], loss=F.cross_entropy)
    z = model[0](x).detach().requires_grad_()
    (g,) = torch.autograd.grad(F.cross_entropy(model[2:](z.relu()), y), z)
    before = (z * g).detach().sum((0, 2, 3)).abs()
    for other in (before, weight_form(model, 0, x, y), found["taylor"]["0"]):
        torch.testing.assert_close(found["reconstruction"]["0"], other.float(), rtol=1e-5, atol=0)


def test_behind_a_norm_it_is_the_form_of_the_norms_own_parameters() -> None:
    model, x, y = plain_chain(norm=True)
    groups = sec.groups(model, x)
    found = score(model, groups, [(x, y)], Reconstruction(), loss=F.cross_entropy)
    expected = weight_form(model, 1, x, y).float()
    torch.testing.assert_close(found["reconstruction"]["0"], expected, rtol=1e-5, atol=0)


def test_in_train_mode_the_weight_form_is_noise_and_ours_does_not_change() -> None:
    """The package's trap: a filter's scale means nothing before a norm with batch statistics."""
    model, x, y = plain_chain(norm=True)
    groups = sec.groups(model, x)
    here = score(model, groups, [(x, y)], Reconstruction(), loss=F.cross_entropy)
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    there = score(model, groups, [(x, y)], Reconstruction(), loss=F.cross_entropy)
    assert torch.equal(here["reconstruction"]["0"], there["reconstruction"]["0"])
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    with torch.no_grad():
        model[0].bias.zero_()  # what a bias adds, the batch's mean takes away
    noise = weight_form(model, 0, x, y)
    assert float(noise.max()) < 1e-3 * float(here["reconstruction"]["0"].max())


def test_the_sum_is_signed_and_taken_over_samples_and_layers() -> None:
    """Two samples that pull in opposite directions cancel, which no other form of Taylor does."""
    model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.Linear(2, 1, bias=False)).double()
    x, y = torch.ones(2, 1, dtype=torch.float64), torch.tensor([1.0, -1.0], dtype=torch.float64)
    forms = [Reconstruction(), sec.ActivationTaylor()]
    groups = sec.groups(model, x)
    found = score(model, groups, [(x, y)], forms, loss=lambda out, y: (out[:, 0] * y).mean())
    assert found["reconstruction"]["0"].tolist() == [0.0, 0.0]
    assert bool((found["activationtaylor"]["0"] > 0).all())


def test_a_last_smaller_batch_counts_by_its_samples() -> None:
    model = net().double().eval()
    groups = sec.groups(model, example().double())
    ((x, y),) = data([7])
    x = x.double()
    whole = score(model, groups, [(x, y)], Reconstruction(), loss=F.cross_entropy)
    uneven = [(x[:6], y[:6]), (x[6:], y[6:])]
    parts = score(model, groups, uneven, Reconstruction(), loss=F.cross_entropy)
    for name, values in whole["reconstruction"].items():
        torch.testing.assert_close(parts["reconstruction"][name], values)


def test_layers_of_a_residual_group_are_told_apart_and_kept_in_the_file(tmp_path: Path) -> None:
    made = case("resnext")
    x, y = batch(made)
    scores = score(made.model, made.groups, [(x, y)], Reconstruction(), loss=loss)
    found = scores.layers["reconstruction"]
    assert found
    for name, layers in found.items():
        most = torch.stack([*layers.values()]).sum(0)
        assert bool((scores["reconstruction"][name] <= most + 1e-6).all())
    stored = sec.Scores.load(scores.save(tmp_path / "scores.safetensors"))
    for name, layers in found.items():
        for writer, values in layers.items():
            assert torch.equal(stored.layers["reconstruction"][name][writer], values)


def test_where_a_layer_writes_some_units_only_there_are_no_scores_of_layers() -> None:
    made = case("residual_over_concat")
    x, y = batch(made)
    scores = score(made.model, made.groups, [(x, y)], Reconstruction(), loss=loss)
    assert "left" not in scores.layers.get("reconstruction", {})


def test_what_a_recurrent_layer_sends_on() -> None:
    torch.manual_seed(0)
    layer, head = nn.LSTM(4, 6, batch_first=True).double(), nn.Linear(6, 3).double()

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = layer, head

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(self.layer(x)[0][:, -1])
            return out

    x, y = torch.randn(5, 7, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 1, 0])
    model = Last()
    groups = sec.groups(model, x)
    found = score(model, groups, [(x, y)], Reconstruction(), loss=F.cross_entropy)
    h = layer(x)[0][:, -1].detach().requires_grad_()
    (g,) = torch.autograd.grad(F.cross_entropy(head(h), y), h)
    (values,) = found["reconstruction"].values()
    torch.testing.assert_close(values, (h * g).detach().sum(0).abs().float())


def test_parts_that_saw_different_layers_add() -> None:
    """Every layer has its entry from the start, so any two states fit."""
    made = case("resnext")
    x, y = batch(made)
    nothing = {
        "reconstruction": {group.name: Reconstruction().start(group) for group in made.groups}
    }
    some = observe(made.model, made.groups, [(x, y)], Reconstruction(), loss=loss)
    for group in made.groups:
        assert (
            nothing["reconstruction"][group.name].keys()
            == some["reconstruction"][group.name].keys()
        )
    both = finish(merge(nothing, some), made.groups, Reconstruction())
    alone = finish(some, made.groups, Reconstruction())
    for group in made.groups:
        assert torch.equal(both["reconstruction"][group.name], alone["reconstruction"][group.name])


def test_bad_input() -> None:
    model = net()
    groups = sec.groups(model, example())
    with pytest.raises(OptionError, match="need a loss"):
        score(model, groups, data(), Reconstruction())
    with pytest.raises(DataError, match="no labels"):
        score(model, groups, [x for x, _ in data()], Reconstruction(), loss=F.cross_entropy)
    with pytest.raises(ScoreError, match="no module returns") as caught:
        score(model, inside(model, "weight"), data(), Reconstruction(), loss=F.cross_entropy)
    assert caught.value.where == "conv1"

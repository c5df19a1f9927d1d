from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.errors import DataError, ModelError, OptionError
from secateur.saliency import score
from secateur.saliency.curvature import Curvature
from secateur.saliency.hessian_diagonal import HessianDiagonal
from secateur.types import Group, Groups, Member, Role
from secateur.types.batches import Batch
from secateur.types.untouched import untouched
from tests.handmade import channels, data, net, same_state, state_of
from tests.saliency.cases import case
from tests.saliency.places import batch
from tests.saliency.places import loss as any_loss


class Tiny(nn.Module):
    """Smooth, so that it bends; small, so that its Hessian can be written down."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.b(torch.tanh(self.a(x)))
        return out


def tiny() -> tuple[Tiny, Groups, Batch]:
    model = Tiny().double().eval()
    shape = {name: tuple(tensor.shape) for name, tensor in model.named_parameters()}
    units = torch.arange(4)
    members = (
        Member("a.weight", shape["a.weight"], (0,), units, Role.WRITES),
        Member("a.bias", shape["a.bias"], (0,), units, Role.WRITES),
        Member("b.weight", shape["b.weight"], (1,), units, Role.READS),
    )
    groups = Groups((Group("a", "channel", 4, members),), shapes=shape, parameters=frozenset(shape))
    x, y = torch.randn(5, 3, dtype=torch.float64), torch.randint(2, (5,))
    return model, groups, Batch("batch 0", x, y, 5)


def hessian(model: Tiny, found: Batch) -> tuple[list[str], Tensor]:
    """The slow twin: the whole Hessian of the summed loss, entry by entry."""
    named = {n: p for n, p in model.named_parameters() if n != "b.bias"}
    names = [name for name, p in named.items() for _ in range(p.numel())]
    for parameter in named.values():
        parameter.requires_grad_(True)
    value = F.cross_entropy(model(found.x), found.y, reduction="sum")
    slopes = torch.autograd.grad(value, list(named.values()), create_graph=True)
    rows = []
    for slope in torch.cat([s.flatten() for s in slopes]):
        row = torch.autograd.grad(slope, list(named.values()), retain_graph=True)
        rows.append(torch.cat([r.flatten() for r in row]))
    return names, torch.stack(rows)


def collect(curvature: Curvature, model: nn.Module, found: Batch, groups: Groups) -> Tensor:
    with untouched(model):
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        by_name = curvature.collect(model, found, groups, F.cross_entropy)
    return torch.cat([tensor.flatten() for tensor in by_name.values()])


def test_the_estimate_is_unbiased_and_its_error_is_what_theory_says() -> None:
    model, groups, found = tiny()
    _, exact = hessian(model, found)
    diagonal = exact.diagonal()
    # of one probe: the sum of the squares of the other entries of the row
    spread = (exact.square().sum(1) - diagonal.square()).sqrt()
    deviations = torch.stack(
        [
            (collect(Curvature(100, seed), model, found, groups) - diagonal) / spread * 10
            for seed in range(20)
        ]
    )
    assert float(deviations.mean(0).abs().max()) < 5 / 20**0.5
    assert 0.8 < float(deviations.square().mean()) < 1.2


def test_one_probe_is_exact_where_weights_do_not_meet() -> None:
    class Apart(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 3))

        def forward(self, x: Tensor) -> Tensor:
            return (self.weight * x[:, None]).flatten(1)

    model = Apart()
    shapes = {"weight": (4, 3)}
    member = Member("weight", (4, 3), (0, 1), torch.arange(12), Role.WRITES)
    groups = Groups((Group("g", "weight", 12, (member,)),), (), shapes, frozenset(shapes))
    x = torch.randn(6, 3)

    def cubes(out: Tensor, y: Tensor) -> Tensor:
        return (out**3).sum(1).mean()

    found = score(model, groups, [(x, x)], HessianDiagonal(1), loss=cubes)["hessiandiagonal"]["g"]
    weight = model.weight.detach()
    expected = 0.5 * weight**2 * 6 * weight * (x**3).mean(0)
    torch.testing.assert_close(found, expected.flatten(), rtol=1e-4, atol=1e-6)
    assert bool((found < 0).any())


def test_batches_add_up_whatever_their_size() -> None:
    model, groups, whole = tiny()
    parts = [Batch("", whole.x[i:j], whole.y[i:j], j - i) for i, j in ((0, 1), (1, 5))]
    sums = sum(collect(Curvature(3), model, part, groups) for part in parts)
    torch.testing.assert_close(sums, collect(Curvature(3), model, whole, groups))


def test_the_seed_decides_and_torchs_generator_is_left_alone() -> None:
    model, groups, found = tiny()
    before = torch.get_rng_state()
    first, again = (collect(Curvature(2, 1), model, found, groups) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, collect(Curvature(2, 2), model, found, groups))


def test_attention_is_differentiated_twice() -> None:
    made = case("vit_fused")
    x, y = batch(made, 2)
    before = state_of(made.model)
    found = score(made.model, made.groups, [(x, y)], HessianDiagonal(2), loss=any_loss)
    assert all(bool(found["hessiandiagonal"][g.name].any()) for g in made.groups)
    assert same_state(made.model, before)


def test_what_has_no_second_derivative_is_said() -> None:
    def distances(out: Tensor, y: Tensor) -> Tensor:
        return F.pdist(out).square().mean()

    model = net()
    before = state_of(model)
    with pytest.raises(ModelError, match=r"cannot be differentiated twice.*pdist") as caught:
        score(model, channels(model), data([2]), HessianDiagonal(), loss=distances)
    assert "first order" in caught.value.hint
    assert same_state(model, before)


def test_a_loss_linear_in_the_weights_does_not_bend() -> None:
    model, groups, found = tiny()

    def mean(out: Tensor, y: Tensor) -> Tensor:
        return (model.a.weight.sum() + 0 * out.sum()) * 1.0

    scores = score(model, groups, [(found.x, found.y)], HessianDiagonal(), loss=mean)
    assert not scores["hessiandiagonal"]["a"].any()


def test_labels_a_loss_and_a_probe_are_needed() -> None:
    model, (x, _) = net(), data([2])[0]
    with pytest.raises(OptionError, match="curvature needs a loss"):
        score(model, channels(model), data(), HessianDiagonal())
    with pytest.raises(DataError, match="no labels"):
        score(model, channels(model), [x], HessianDiagonal(), loss=F.cross_entropy)
    with pytest.raises(DataError, match="the loss is nan"):
        nan = float("nan")
        score(model, channels(model), data(), HessianDiagonal(), loss=lambda o, _: o.sum() * nan)
    for kind in (HessianDiagonal, Curvature):
        with pytest.raises(OptionError, match="at least 1, not 0"):
            kind(probes=0)

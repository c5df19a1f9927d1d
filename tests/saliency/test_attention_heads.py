"""Heads of `nn.MultiheadAttention` are scored by what they give to `out_proj`, and by their rows."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur as sec
from secateur.saliency import score
from tests.saliency.cases import close
from tests.saliency.test_utilization import by_hand, drawn

WIDTH, HEADS, STEPS = 8, 4, 5


class Packed(nn.Module):
    """One attention in a residual; batches first or steps first inside."""

    def __init__(self, **options: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, **options)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.attention.batch_first else x.transpose(0, 1)
        out = self.attention(y, y, y)[0]
        out = out if self.attention.batch_first else out.transpose(0, 1)
        found: Tensor = self.head((x + out).mean(1))
        return found


class Written(nn.Module):
    """The same, written out, with the queries, keys and values in one layer."""

    def __init__(self, packed: Packed) -> None:
        super().__init__()
        self.qkv, self.o = nn.Linear(WIDTH, 3 * WIDTH).double(), packed.attention.out_proj
        self.qkv.weight, self.qkv.bias = (
            packed.attention.in_proj_weight,
            packed.attention.in_proj_bias,
        )
        self.head = packed.head

    def shown(self, x: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(2, (-1, WIDTH // HEADS)).transpose(1, 2)
            for part in self.qkv(x).chunk(3, -1)
        )
        weights = (q @ k.mT * (WIDTH // HEADS) ** -0.5).softmax(-1)
        return (weights @ v).transpose(1, 2).flatten(2)

    def rest(self, x: Tensor, shown: Tensor) -> Tensor:
        found: Tensor = self.head((x + self.o(shown)).mean(1))
        return found

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(x, self.shown(x))


@pytest.fixture(params=[True, False], ids=["batches first", "steps first"])
def model(request: pytest.FixtureRequest) -> Packed:
    torch.manual_seed(0)
    made = Packed(batch_first=request.param).double().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.5)
    return made


X, Y = drawn(9, STEPS, WIDTH), torch.arange(9) % 3
BATCHES = [(X[:4], Y[:4]), (X[4:], Y[4:])]


def test_the_twin_computes_the_same(model: Packed) -> None:
    assert torch.allclose(Written(model)(X), model(X), atol=1e-12)


def test_utilization_is_of_what_each_head_gives(model: Packed) -> None:
    groups = sec.groups(model, X, sec.Heads())
    how = sec.Utilization(directions=4)
    found = score(model, groups, BATCHES, how)["utilization"]["attention"]
    shown = Written(model).shown(X).detach().unflatten(2, (HEADS, -1))  # sample, step, head, width
    close(found, by_hand(shown.permute(0, 2, 3, 1).flatten(2), Y, how))


def test_reconstruction_is_the_first_order_change_of_what_each_head_gives(model: Packed) -> None:
    groups = sec.groups(model, X, sec.Heads())
    found = score(model, groups, BATCHES, sec.Reconstruction(), loss=F.cross_entropy)
    twin = Written(model)
    shown = twin.shown(X).detach().requires_grad_()
    (slopes,) = torch.autograd.grad(F.cross_entropy(twin.rest(X, shown), Y, reduction="sum"), shown)
    change = (shown * slopes).unflatten(2, (HEADS, -1)).sum((0, 1, 3)) / len(X)
    close(found["reconstruction"]["attention"], change.abs().tolist())


def test_reconstruction_is_the_slope_of_fading_a_head_out(model: Packed) -> None:
    """A number that knows nothing of gradients: the loss with a little less of one head."""
    groups = sec.groups(model, X, sec.Heads())
    found = score(model, groups, BATCHES, sec.Reconstruction(), loss=F.cross_entropy)
    step, dense, slopes = 1e-6, F.cross_entropy(model(X), Y).item(), []
    for head in range(HEADS):
        faded = copy.deepcopy(model)
        with torch.no_grad():
            faded.attention.out_proj.weight.unflatten(1, (HEADS, -1))[:, head] *= 1 - step
            slopes.append(abs(F.cross_entropy(faded(X), Y).item() - dense) / step)
    close(found["reconstruction"]["attention"], slopes, rtol=1e-4)


WEIGHTS: list[Callable[[], sec.Saliency]] = [sec.Magnitude, sec.Taylor, sec.LAMP]


@pytest.mark.parametrize("make", WEIGHTS)
def test_scores_of_weights_are_those_of_the_twin(
    model: Packed, make: Callable[[], sec.Saliency]
) -> None:
    twin, found = Written(model), []
    for network in (model, twin):
        groups = sec.groups(network, X, sec.Heads())
        (scores,) = score(network, groups, BATCHES, make(), loss=F.cross_entropy).values()
        (values,) = scores.values()
        found.append(values)
    assert len(found[0]) == HEADS
    assert len(found[0].unique()) == HEADS
    torch.testing.assert_close(*found)


def test_magnitude_is_the_norm_of_a_heads_rows(model: Packed) -> None:
    groups = sec.groups(model, X, sec.Heads())
    found = score(model, groups, None, sec.Magnitude())["magnitude"]["attention"]
    rows = model.attention.in_proj_weight.detach().unflatten(0, (3, HEADS, -1))
    close(found, rows.square().sum((0, 2, 3)).sqrt().tolist())


def test_scoring_leaves_the_attention_as_it_was(model: Packed) -> None:
    groups = sec.groups(model, X, sec.Heads())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fast = torch.backends.mha.get_fastpath_enabled()
    with pytest.raises(sec.SecateurError):
        score(model, groups, [(X * torch.nan, Y)], sec.Utilization())
    score(model, groups, BATCHES, [sec.Utilization(), sec.Reconstruction()], loss=F.cross_entropy)
    assert type(model.attention) is nn.MultiheadAttention
    assert "forward" not in vars(model.attention)
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_fair_prunes_heads(model: Packed) -> None:
    groups = sec.groups(model, X, sec.Heads())
    both = [sec.Utilization(), sec.Reconstruction()]
    scores = score(model, groups, BATCHES, both, loss=F.cross_entropy)
    plan = sec.allocate(groups, scores, sec.Tolerance(alpha=0.7), None)
    assert 0 < int(plan.masks["attention"].sum()) < HEADS
    lowest = scores["utilization"]["attention"][~plan.masks["attention"]].max()
    assert lowest <= scores["utilization"]["attention"][plan.masks["attention"]].min()
    small = sec.shrink(model, plan)
    assert sec.certify(model, small, plan, X).exact


def test_what_heads_gave_can_be_repaired(model: Packed) -> None:
    """The readers of a head are repaired as those of a channel are."""
    groups = sec.groups(model, X, sec.Heads())
    plan = sec.Plan(groups, {"attention": torch.tensor([True, False, True, True])})
    for repair in (sec.fold_means, sec.least_squares):
        small = sec.shrink(model, plan)
        before = (small(X) - model(X)).square().mean()
        done = repair(small, model, plan, BATCHES)
        assert list(done.changed) == ["attention.out_proj"]
        assert (small(X) - model(X)).square().mean() < before
    shown = Written(model).shown(X).detach().unflatten(2, (HEADS, -1))[:, :, 1]
    small = sec.shrink(model, plan)
    sec.fold_means(small, model, plan, BATCHES)
    sent = shown.mean((0, 1)) @ model.attention.out_proj.weight.unflatten(1, (HEADS, -1))[:, 1].T
    torch.testing.assert_close(small.attention.out_proj.bias, model.attention.out_proj.bias + sent)

"""Scores of experts: by what the router says, by what they return, and by all their weights."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur as sec
from secateur.errors import ScoreError
from secateur.saliency.need import Need
from secateur.saliency.sites import sites
from tests import mixtures

EVERY = [*mixtures.ROWS, *mixtures.STACKED]
X = torch.randn(24, 3, generator=torch.Generator().manual_seed(0))
Y = torch.arange(24) % 3 % 2
DATA = [(X[:10], Y[:10]), (X[10:], Y[10:])]


def _scores(model: nn.Module, *saliencies: sec.Saliency, example: Tensor = X) -> sec.Scores:
    groups = sec.groups(model, example, sec.Experts())
    return sec.score(model, groups, DATA, list(saliencies), loss=F.cross_entropy)


def _only(scores: sec.Scores, name: str) -> Tensor:
    (found,) = scores[name].values()
    return found


@pytest.mark.parametrize("kind", [mixtures.Sparse, mixtures.Dense, mixtures.Stacked])
def test_an_expert_that_serves_one_class_only(kind: type[nn.Module]) -> None:
    """Its logit is 5 higher for its class; the others' logits are the same for both."""
    model = mixtures.net(kind())
    mixture = model.mixtures[0]
    with torch.no_grad():
        model.stem.weight.zero_()[0, 0] = 1.0  # the first input alone, 1 for class 1, else 0
        model.stem.bias.zero_()
        mixture.router.weight.zero_()[2, 0] = 5.0
        mixture.router.bias.copy_(torch.tensor([0.3, -2.0, 1.0, 4.0]))
    x = torch.randn(24, 3)
    x[:, 0] = Y.float()
    groups = sec.groups(model, x, sec.Experts())
    found = _only(sec.score(model, groups, [(x, Y)], sec.Utilization()), "utilization")

    assert found.tolist() == [0.0, 0.0, 5.0, 0.0]
    plan = sec.allocate(
        groups,
        sec.score(model, groups, [(x, Y)], sec.Utilization()),
        sec.Ranked(by="utilization"),
        "units=0.5",
    )
    (mask,) = plan.masks.values()
    assert bool(mask[2])


@pytest.mark.parametrize("kind", EVERY)
def test_utilization_looks_at_the_router(kind: type[nn.Module]) -> None:
    model = mixtures.net(kind())
    said: list[Tensor] = []
    linear = (
        model.mixtures[0].gate.linear if kind is mixtures.Corrected else model.mixtures[0].router
    )
    handle = linear.register_forward_hook(lambda _m, _a, out: said.append(out.detach()))
    model(X)
    handle.remove()
    columns = said[0].T
    wanted = []
    for column in columns:  # two classes: the area between their quantile functions
        zero, one = column[Y == 0].sort().values, column[Y == 1].sort().values
        grid = (torch.arange(48, dtype=torch.float64) + 0.5) / 48  # 16 and 8 both divide 48
        at = [values[(grid * len(values)).long()].double() for values in (zero, one)]
        wanted.append(float((at[0] - at[1]).abs().mean()))
    found = _only(_scores(model, sec.Utilization(per_class=None)), "utilization")
    assert found.shape == (4,)
    assert torch.allclose(found.double(), torch.tensor(wanted).double(), atol=1e-6)


@pytest.mark.parametrize("kind", [mixtures.Sparse, mixtures.Numbered, mixtures.Together])
def test_reconstruction_is_what_the_experts_outputs_are_worth(kind: type[nn.Module]) -> None:
    """The weight form of the last layer: |sum w * dL/dw + b * dL/db| / N."""
    model = mixtures.net(kind())
    F.cross_entropy(model(X), Y).backward()
    wanted = [
        abs(
            sum(
                float((p * p.grad).sum().detach())
                for p in e.down.parameters()
                if p.grad is not None
            )
        )
        for e in model.mixtures[0].experts
    ]
    model.zero_grad(set_to_none=True)
    found = _only(_scores(model, sec.Reconstruction()), "reconstruction")
    assert torch.allclose(found, torch.tensor(wanted), atol=1e-6)
    assert found.max() > 1e-3


@pytest.mark.parametrize("kind", EVERY)
def test_weight_forms_sum_over_the_whole_expert(kind: type[nn.Module]) -> None:
    model = mixtures.net(kind())
    groups = sec.groups(model, X, sec.Experts())
    (group,) = groups
    F.cross_entropy(model(X), Y).backward()
    parameters = dict(model.named_parameters())
    taylor, squares = torch.zeros(4), torch.zeros(4)
    for member in group.members:
        tensor = parameters.get(member.name)
        if tensor is None:
            continue
        for unit in range(4):
            if member.dims == ():
                part = ... if int(member.unit_of) == unit else slice(0, 0)
            else:
                part = unit
            grad = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
            taylor[unit] += (tensor * grad)[part].sum().detach()
            if tensor.dim() > 1:
                squares[unit] += tensor[part].square().sum().detach()
    model.zero_grad(set_to_none=True)
    scores = _scores(model, sec.Taylor(), sec.Magnitude())
    assert torch.allclose(_only(scores, "taylor"), taylor.abs(), atol=1e-6)
    assert torch.allclose(_only(scores, "magnitude"), squares.sqrt(), atol=1e-5)


def test_sites_of_a_mixture() -> None:
    model = mixtures.net(mixtures.Sparse())
    (group,) = sec.groups(model, X, sec.Experts())
    (said,) = sites(group, Need.ACTIVATIONS)
    assert (said.module, said.dim, said.unit_of.tolist()) == ("mixtures.0.router", 1, [0, 1, 2, 3])
    assert sites(group, Need.ACTIVATION_GRADIENTS) == (said,)
    returned = sites(group, Need.WORK_GRADIENTS)
    assert [s.module for s in returned] == [f"mixtures.0.experts.{i}" for i in range(4)]
    assert [s.unit_of.unique().item() for s in returned] == [0, 1, 2, 3]


class Apart(mixtures.Numbered):
    """The same, but the router sees samples and positions as two dims."""

    def forward(self, x: Tensor) -> Tensor:
        shares, chosen = self.router(x).softmax(-1).flatten(0, 1).topk(self.k, dim=-1)
        tokens, shares = x.flatten(0, 1), shares / shares.sum(-1, keepdim=True)
        out = torch.zeros_like(tokens)
        for number, expert in enumerate(self.experts):
            rows, place = torch.where(chosen == number)
            out.index_add_(0, rows, expert(tokens[rows]) * shares[rows, place, None])
        return out.reshape(x.shape)


def test_positions_of_a_sample_are_one_point() -> None:
    """Whether tokens are viewed as rows or not, each sample has one point for each expert."""
    x, y = torch.randn(20, 5, 3), torch.arange(20) % 2
    found = []
    for kind in (mixtures.Numbered, Apart):
        model = mixtures.net(kind())
        groups = sec.groups(model, x, sec.Experts())
        saliencies = [sec.Utilization(), sec.ActivationTaylor(), sec.Fisher()]
        scores = sec.score(model, groups, [(x, y)], saliencies, loss=F.cross_entropy)
        found.append([_only(scores, s.name) for s in saliencies])
    for flat, apart in zip(*found, strict=True):
        assert torch.allclose(flat, apart, rtol=1e-4, atol=1e-9)
        assert flat.max() > 0


def test_one_sample_does_not_tell_whose_the_rows_are() -> None:
    x, y = torch.randn(20, 5, 3), torch.arange(20) % 2
    model = mixtures.net(mixtures.Numbered())
    groups = sec.groups(model, x[:1], sec.Experts())
    with pytest.raises(ScoreError, match="one sample cannot be told from another"):
        sec.score(model, groups, [(x, y)], sec.Utilization())


def test_any_split_gives_the_same_scores() -> None:
    model = mixtures.net(mixtures.Sparse(), mixtures.Stacked())
    groups = sec.groups(model, X, sec.Experts())
    saliencies = [sec.Utilization(), sec.Reconstruction(), sec.Taylor(), sec.MeanActivation()]
    whole, parts = (
        sec.score(model, groups, data, saliencies, loss=F.cross_entropy)
        for data in ([(X, Y)], [(X[i : i + 3], Y[i : i + 3]) for i in range(0, 24, 3)])
    )
    for saliency in saliencies:
        for group in groups:
            one, other = (s[saliency.name][group.name] for s in (whole, parts))
            assert torch.allclose(one, other, rtol=1e-4, atol=1e-7)


def test_domino_has_nothing_to_add() -> None:
    model = mixtures.net(mixtures.Sparse())
    scores = _scores(model, sec.MeanActivation(), sec.Domino(sec.MeanActivation()))
    assert torch.equal(_only(scores, "meanactivation"), _only(scores, "domino"))

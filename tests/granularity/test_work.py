"""Which products get shorter with an expert, told from two runs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import secateur as sec
from secateur.cost import count_macs, macs
from secateur.granularity.mixture import find_mixtures
from secateur.granularity.work import Work, work_of
from secateur.trace.routers import routed
from tests import mixtures

X = torch.randn(9, 3)


def _work(model: nn.Module, x: Tensor = X) -> Work:
    seen = routed(model, x)
    found, _ = find_mixtures(model, seen.routers)
    return work_of(model, x, seen.base, found)


@pytest.mark.parametrize("kind", [*mixtures.ROWS, *mixtures.STACKED])
def test_every_number_of_experts(kind: type[nn.Module]) -> None:
    """What is told from one expert less holds for two and three less.

    A single expert is left out: for a sum over one index, einsum makes no product at all.
    """
    model = mixtures.net(kind(5))
    groups = sec.groups(model, X, sec.Experts())
    (group,) = groups
    for left in range(max(group.least.units, 2), 5):
        masks = {group.name: torch.arange(5) >= 5 - left}
        small = sec.shrink(model, sec.Plan(groups, masks))
        assert macs(groups, masks) == count_macs(small, X)


def test_a_loop_over_stacked_matrices() -> None:
    class Loop(mixtures.Stacked):
        def forward(self, x: Tensor) -> Tensor:
            shares = self.router(x).softmax(-1)
            parts = [
                shares[:, i : i + 1] * ((x @ self.up[i] + self.bias[i]).relu() @ self.down[i])
                for i in range(len(self.up))
            ]
            return sum(parts)

    model = mixtures.net(Loop())
    groups = sec.groups(model, X, sec.Experts())
    (group,) = groups
    masks = {group.name: torch.tensor([True, False, False, True])}
    small = sec.shrink(model, sec.Plan(groups, masks))
    assert macs(groups, masks) == count_macs(small, X)


def test_a_balanced_load_is_no_dense_mixture() -> None:
    """Each of four experts sees two of eight samples: as alike as if each saw all of two."""
    mixture = mixtures.Sparse(4, 1)
    model = mixtures.net(mixture)
    with torch.no_grad():
        model.stem.weight.zero_()
        model.stem.bias.zero_()
        model.stem.weight[:3] = torch.eye(3)
        mixture.router.weight.zero_()
        mixture.router.bias.zero_()
        mixture.router.weight[:3, :3] = torch.eye(3) * 9
        mixture.router.bias.copy_(torch.tensor([0.3, 0.2, 0.1, 1.0]))  # no ties
    x = torch.cat([torch.eye(3), torch.zeros(1, 3)]).repeat(2, 1)
    chosen = mixture.router(model.stem(x).relu()).argmax(-1)
    assert chosen.bincount().tolist() == [2, 2, 2, 2]

    groups = sec.groups(model, x, sec.Experts())
    (group,) = groups
    masks = {group.name: torch.tensor([True, True, False, False])}
    assert macs(groups) - macs(groups, masks) == 2 * 8 * 6  # two rows of the router, nothing else


def test_experts_that_cannot_be_fewer() -> None:
    class Four(mixtures.Together):
        def forward(self, x: Tensor) -> Tensor:
            a, b, c, d = (expert(x) for expert in self.experts)
            shares = self.router(x).softmax(-1)
            return (torch.stack([a, b, c, d], 1) * shares.unsqueeze(-1)).sum(1)

    work = _work(mixtures.net(mixtures.Sparse(), Four()))
    assert work.refused.keys() == {"mixtures.1.experts"}
    assert "not enough values to unpack" in work.refused["mixtures.1.experts"]
    groups = sec.groups(mixtures.net(mixtures.Sparse(), Four()), X, sec.Experts())
    assert [g.name for g in groups] == ["mixtures.0.experts"]


def test_a_quadratic_cost_is_refused() -> None:
    class Mixing(mixtures.Together):
        def forward(self, x: Tensor) -> Tensor:
            shares = self.router(x).softmax(-1)
            shares = shares @ (shares.T @ shares)
            return (torch.stack([e(x) for e in self.experts], 1) * shares.unsqueeze(-1)).sum(1)

    (why,) = _work(mixtures.net(Mixing())).refused.values()
    assert "multiply-accumulates in mixtures.0" in why


def test_the_network_is_left_as_it_was() -> None:
    model = mixtures.net(mixtures.Numbered(), mixtures.Stacked()).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    _work(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert (model.mixtures[0].num_experts, len(model.mixtures[0].experts)) == (4, 4)
    assert model.training

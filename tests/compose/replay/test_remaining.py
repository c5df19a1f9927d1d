"""The smaller copy and its groups: what a trace of it would find, and what masks would compute."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import secateur as sec
from secateur.compose.candidates import Candidate
from secateur.compose.replay.cuts import Cuts
from secateur.compose.replay.remaining import remaining
from secateur.errors import PlanError
from secateur.types import Group, Groups
from tests.handmade import channels, inside, net, same_state, state_of
from tests.laws.removal import random_masks
from tests.zoo import more, traps
from tests.zoo.net import Net as ZooNet
from tests.zoo.outputs import difference, floats, run

NETS = [net for net in (*traps.NETS, *more.NETS)][::3]  # noqa: C416 - every third: a copy each


def same(mine: Group, other: Group) -> bool:
    """Whether two groups have the same members."""
    left = sorted((m.name, m.dims, m.role.value, m.shape, m.unit_of.tolist()) for m in mine.members)
    right = sorted(
        (m.name, m.dims, m.role.value, m.shape, m.unit_of.tolist()) for m in other.members
    )
    return left == right


@pytest.mark.parametrize("case", NETS, ids=str)
def test_the_copy_computes_what_the_masked_network_computes(case: ZooNet) -> None:
    model, example = case.model(), case.inputs()
    groups = sec.groups(model, example)
    if not len(groups):
        pytest.skip("nothing can be pruned here")
    masks, before = random_masks(groups, 0), state_of(model)
    left = remaining(model, groups, masks)
    with sec.masked(model, sec.Plan(groups, masks)):
        masked = floats(run(model, case.inputs(1)))
    scale = [tensor.abs() for tensor in masked]
    assert difference(masked, floats(run(left.network, case.inputs(1))), scale) < 1e-8
    assert same_state(model, before)


@pytest.mark.parametrize("case", NETS, ids=str)
def test_its_groups_fit_its_tensors(case: ZooNet) -> None:
    model, example = case.model(), case.inputs()
    groups = sec.groups(model, example)
    masks = random_masks(groups, 0)
    left = remaining(model, groups, masks)
    tensors = dict(left.network.named_parameters()) | dict(left.network.named_buffers())
    assert {name: tuple(t.shape) for name, t in tensors.items()} == dict(left.groups.shapes)
    for group, old in zip(left.groups, groups, strict=True):
        assert group.size == left.units[group.name].numel()
        if group.size < old.size:
            assert torch.equal(left.units[group.name], masks[group.name].nonzero().squeeze(1))
        for member in group.members:
            assert member.shape == tuple(tensors[member.name].shape)
            assert (
                member.unit_of.numel()
                == torch.tensor([member.shape[d] for d in member.dims]).prod()
            )
            assert int(member.unit_of.max()) < group.size


def test_its_groups_are_those_of_a_fresh_trace() -> None:
    model, x = net().eval(), torch.randn(2, 3, 4, 4)
    groups = sec.groups(model, x)
    masks = random_masks(groups, 3)
    left = remaining(model, groups, masks)
    traced = sec.groups(left.network, x)
    assert [group.name for group in traced] == [group.name for group in left.groups]
    assert all(same(mine, left.groups[mine.name]) for mine in traced)
    for mine in traced:
        other = left.groups[mine.name]
        for a, b in zip(mine.activations, other.activations, strict=True):
            assert (a.module, a.place, a.position, a.dim) == (b.module, b.place, b.position, b.dim)
            assert torch.equal(a.unit_of, b.unit_of)
    assert sec.cost.macs(traced) == sec.cost.macs(left.groups)
    assert sec.cost.params(traced) == sec.cost.params(left.groups)


@pytest.mark.parametrize("saliency", [sec.Magnitude(), sec.MeanSquaredWeights(), sec.Taylor()])
def test_scores_of_the_copy_are_scores_of_the_masked_network(saliency: sec.Saliency) -> None:
    model = net().double().eval()
    groups = channels(model)
    masks = random_masks(groups, 1)
    data = [(torch.randn(8, 3, 4, 4, dtype=torch.float64), torch.randint(5, (8,)))]
    loss = nn.functional.cross_entropy
    with sec.masked(model, sec.Plan(groups, masks)):
        expected = sec.score(model, groups, data, saliency, loss=loss)
    left = remaining(model, groups, masks)
    found = sec.score(left.network, left.groups, data, saliency, loss=loss)
    for name in expected:
        spread = left.spread(found[name], fill=-1.0)
        for group, mask in masks.items():
            assert torch.allclose(spread[group][mask], expected[name][group][mask], rtol=1e-5)
            assert bool((spread[group][~mask] == -1.0).all())


def test_declared_and_chosen_groups_stay_whole_and_are_masked() -> None:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.norm = nn.Linear(4, 6), nn.LayerNorm(6)
            self.mid, self.down = nn.Linear(6, 5), nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.down(self.mid(self.norm(self.up(x))).relu())
            return out

    model, x = Normed().double().eval(), torch.randn(3, 4, dtype=torch.float64)
    groups = sec.groups(model, x)
    assert groups["up"].declared
    masks = {g.name: torch.arange(g.size) != 1 for g in groups}
    for whole, sizes in ((set(), (6, 4)), ({"mid"}, (6, 5))):
        left = remaining(model, groups, masks, whole)
        assert (left.groups["up"].size, left.groups["mid"].size) == sizes
        with sec.masked(model, sec.Plan(groups, masks)):
            assert torch.allclose(left.network(x), model(x), rtol=1e-12)
    assert left.number(Candidate("mid", 3, "m")) == 3
    assert remaining(model, groups, masks).number(Candidate("mid", 3, "m")) == 2


@pytest.mark.parametrize("kind", ["weight", "kernel"])
def test_units_inside_weights_are_masked(kind: str) -> None:
    model, x = net().double().eval(), torch.randn(3, 3, 4, 4, dtype=torch.float64)
    groups = inside(model, kind)
    masks = random_masks(groups, 0)
    left = remaining(model, groups, masks)
    assert [g.size for g in left.groups] == [g.size for g in groups]
    with sec.masked(model, sec.Plan(groups, masks)):
        assert torch.allclose(left.network(x), model(x), rtol=1e-12)


def test_masks_of_another_network_are_refused() -> None:
    model = net()
    with pytest.raises(PlanError):
        remaining(model, channels(model), {"conv1": torch.ones(6, dtype=torch.bool)} | {
            "conv2": torch.ones(9, dtype=torch.bool)
        })  # fmt: skip


def test_who_asks_for_the_same_masks_shares_the_copy() -> None:
    model = net()
    groups: Groups = channels(model)
    cuts, masks = Cuts(model, groups, channels_last=True), random_masks(groups, 0)
    first = cuts(masks)
    assert cuts({name: mask.clone() for name, mask in masks.items()}) is first
    assert cuts(masks, {"conv1"}) is not first
    masks["conv1"] = torch.ones_like(masks["conv1"])
    assert cuts(masks).groups["conv1"].size == 6
    weight = first.network.conv2.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert model.conv2.weight.is_contiguous()

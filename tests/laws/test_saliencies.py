"""Laws 3, 4 and 9 for every saliency; and scoring leaves the network as it was."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur as sec
import secateur.saliency as package
from secateur.saliency import Saliency, finish, merge, observe, score
from secateur.saliency.activation_taylor import ActivationTaylor
from secateur.saliency.apoz import APoZ
from secateur.saliency.batch_fisher import BatchFisher
from secateur.saliency.batch_norm_scale import BatchNormScale
from secateur.saliency.covered import Covered
from secateur.saliency.domino import Domino
from secateur.saliency.fisher import Fisher
from secateur.saliency.geometric_median import GeometricMedian
from secateur.saliency.hessian_diagonal import HessianDiagonal
from secateur.saliency.lamp import LAMP
from secateur.saliency.lowest import Lowest
from secateur.saliency.magnitude import Magnitude
from secateur.saliency.mean_activation import MeanActivation
from secateur.saliency.mean_gradient import MeanGradient
from secateur.saliency.mean_squared_weights import MeanSquaredWeights
from secateur.saliency.random import Random
from secateur.saliency.reconstruction import Reconstruction
from secateur.saliency.relevance import Relevance
from secateur.saliency.states import load_states, save_states
from secateur.saliency.taylor import Taylor
from secateur.saliency.utilization import Utilization
from secateur.saliency.wanda import Wanda
from secateur.types import Group, Member
from tests.laws.snapshot import Snapshot
from tests.saliency.cases import Case, case

SALIENCIES: dict[str, Saliency] = {
    str(saliency): saliency
    for saliency in (
        Magnitude(1),
        Magnitude(2),
        MeanSquaredWeights(),
        GeometricMedian(),
        LAMP(),
        BatchNormScale(),
        Random(),
        Taylor(),
        MeanActivation(),
        APoZ(),
        MeanGradient(),
        ActivationTaylor(),
        Fisher(),
        BatchFisher(),
        HessianDiagonal(2),
        Wanda(),
        Relevance(),
        Utilization(directions=8),
        Utilization(per_class=2, before=True),
        Reconstruction(),
        Domino(Magnitude(1), inputs=True, average=True),
        Domino(Taylor(), inputs=True),
        Domino(ActivationTaylor(), inputs=True, average=True),
        Domino(Wanda(), average=True),
        Lowest(Fisher()),
        Lowest(Magnitude(2)),
        Lowest(Utilization(directions=8)),
        Lowest(Reconstruction()),
    )
}

# squares of batch sums: tests/saliency/test_batch_fisher.py shows that the split changes them
DEPENDS_ON_THE_SPLIT = {BatchFisher}
# what is drawn belongs to places in the tensors; for the Hessian it holds as far as it is exact
DEPENDS_ON_THE_ORDER_OF_CHANNELS = {Random, HessianDiagonal}
NO_TWIN = {Random, Covered}  # nothing to compute; part of Domino

# residual sums, grouped and depthwise convolutions, a concatenation, flattened maps, a layer twice
NETS = ("resnext", "inverted_residual", "residual_over_concat", "flatten_to_fc", "layer_used_twice")
SAMPLES = 5


@cache
def made(net: str) -> tuple[Case, Tensor, Tensor]:
    """A network with labelled samples."""
    found = case(net)
    x = torch.cat([found.inputs(seed) for seed in range(3)])[:SAMPLES]
    return found, x, torch.arange(SAMPLES) % 2  # two of each class at least


def those_for(net: str) -> dict[str, Saliency]:
    """All that can score a network: not every channel of every network passes a BatchNorm."""
    return {
        name: saliency
        for name, saliency in SALIENCIES.items()
        if net == "resnext" or not isinstance(saliency, BatchNormScale)
    }


@cache
def scored(net: str, cuts: tuple[tuple[int, ...], ...], ranks: int) -> sec.Scores:
    """The scores of all saliencies, where batches hold the given samples."""
    found, x, y = made(net)
    chosen = those_for(net)
    batches = [(x[list(cut)], y[list(cut)]) for cut in cuts]
    parts = [
        observe(found.model, found.groups, batches[rank::ranks], chosen, loss=F.cross_entropy)
        for rank in range(ranks)
    ]
    total = parts.pop()
    for part in parts:
        total = merge(total, part)
    return finish(total, found.groups, chosen)


PAIRS = [(net, name) for net in NETS for name in those_for(net)]


WHOLE = (tuple(range(SAMPLES)),)
SPLITS = {
    "halves": (((0, 1, 2), (3, 4)), 1),
    "single samples, backwards": (((4,), (3,), (2,), (1,), (0,)), 1),
    "two ranks": (((2, 0), (4,), (1, 3)), 2),
    "five ranks": (((3,), (1,), (4,), (0,), (2,)), 5),
}


@pytest.mark.parametrize(("net", "name"), PAIRS)
def test_the_split_the_order_and_the_ranks_do_not_matter(net: str, name: str) -> None:
    """Law 3."""
    if type(SALIENCIES[name]) in DEPENDS_ON_THE_SPLIT:
        return
    whole = scored(net, WHOLE, 1)[name]
    for how, (cuts, ranks) in SPLITS.items():
        for group, expected in whole.items():
            found = scored(net, cuts, ranks)[name][group]
            torch.testing.assert_close(
                found, expected, rtol=1e-5, atol=1e-9, msg=lambda m, how=how: f"{how}: {m}"
            )


@pytest.mark.parametrize("net", NETS)
def test_a_pass_that_was_stopped_goes_on(net: str, tmp_path: Path) -> None:
    """Law 3: after the first half the states are written, and read again."""
    found, x, y = made(net)
    chosen = those_for(net)
    halves = [[(x[:3], y[:3])], [(x[3:], y[3:])]]
    first, second = (
        observe(found.model, found.groups, half, chosen, loss=F.cross_entropy) for half in halves
    )
    stored = load_states(save_states(first, tmp_path / "states.safetensors"))
    resumed = finish(merge(stored, second), found.groups, chosen)
    expected = scored(net, ((0, 1, 2), (3, 4)), 1)
    for name in chosen:
        for group in expected[name]:
            torch.testing.assert_close(
                resumed[name][group], expected[name][group], rtol=1e-6, atol=1e-12
            )


def permutation(group: Group, draw: torch.Generator) -> Tensor:
    """Unit u shall become what unit p[u] was; only units of one make change places."""
    make = [
        tuple((m.name, m.dims, int((m.unit_of == unit).sum())) for m in group.members)
        for unit in range(group.size)
    ]
    order = torch.arange(group.size)
    for kind in set(make):
        alike = torch.tensor([unit for unit in range(group.size) if make[unit] == kind])
        order[alike] = alike[torch.randperm(len(alike), generator=draw)]
    return order


def indices(member: Member, order: Tensor) -> Tensor:
    """Where each index of the permuted tensor was: the k-th of a unit is the k-th of another."""
    source = torch.arange(len(member.unit_of))
    for unit, old in enumerate(order.tolist()):
        source[member.unit_of == unit] = (member.unit_of == old).nonzero().flatten()
    return source


def permuted(found: Case, orders: dict[str, Tensor]) -> nn.Module:
    """The same network with the channels of every group in another order."""
    model = found.net.model()
    tensors = {**dict(model.named_buffers()), **dict(model.named_parameters())}
    with torch.no_grad():
        for group in found.groups:
            for member in group.members:
                (dim,) = member.dims
                tensor = tensors[member.name]
                tensor.copy_(tensor.index_select(dim, indices(member, orders[group.name])))
    return model


@cache
def scored_twice(net: str) -> tuple[sec.Scores, sec.Scores, dict[str, Tensor]]:
    """Before and after the channels have changed places, and how they have."""
    found, x, y = made(net)
    draw = torch.Generator().manual_seed(1)
    orders = {group.name: permutation(group, draw) for group in found.groups}
    turned = permuted(found, orders)
    torch.testing.assert_close(turned(x), found.model(x))
    assert any(not torch.equal(order, order.sort().values) for order in orders.values())
    there = score(turned, found.groups, [(x, y)], those_for(net), loss=F.cross_entropy)
    return scored(net, WHOLE, 1), there, orders


@pytest.mark.parametrize(("net", "name"), PAIRS)
def test_permuting_channels_permutes_scores(net: str, name: str) -> None:
    """Law 4."""
    if type(SALIENCIES[name]) in DEPENDS_ON_THE_ORDER_OF_CHANNELS:
        return
    here, there, orders = scored_twice(net)
    for group, order in orders.items():
        torch.testing.assert_close(
            there[name][group], here[name][group][order], rtol=1e-5, atol=1e-9
        )


@pytest.mark.parametrize("name", SALIENCIES)
def test_the_network_is_left_as_it_was(name: str) -> None:
    found, x, y = made("resnext")
    model = found.net.model().train()
    model.get_parameter("reduce.weight").requires_grad_(False)
    model.get_parameter("stem.0.weight").grad = torch.ones_like(
        model.get_parameter("stem.0.weight")
    )
    before, random = Snapshot(model), torch.get_rng_state()
    batches = [(x[:2], y[:2]), (x[2:], y[2:])]
    score(model, found.groups, batches, SALIENCIES[name], loss=F.cross_entropy)
    assert not before.differences()
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("name", SALIENCIES)
def test_company_does_not_matter(name: str) -> None:
    found, x, y = made("resnext")
    alone = score(found.model, found.groups, [(x, y)], SALIENCIES[name], loss=F.cross_entropy)
    (by_group,) = alone.values()
    for group, values in by_group.items():
        torch.testing.assert_close(
            values, scored("resnext", WHOLE, 1)[name][group], rtol=1e-6, atol=1e-12
        )


def classes() -> set[type[Saliency]]:
    """Every saliency that the package defines."""
    found = set()
    for module in pkgutil.walk_packages(package.__path__, "secateur.saliency."):
        inside = vars(importlib.import_module(module.name)).values()
        found |= {kind for kind in inside if isinstance(kind, type) and issubclass(kind, Saliency)}
    return found - {Saliency}


def test_every_saliency_is_held_to_the_laws() -> None:
    assert classes() - {type(saliency) for saliency in SALIENCIES.values()} == {Covered}


@pytest.mark.parametrize(
    "kind", sorted(classes() - NO_TWIN, key=lambda kind: kind.__name__), ids=lambda k: k.__name__
)
def test_every_saliency_has_a_slow_twin(kind: type[Saliency]) -> None:
    """Law 9: the twins stand in the tests of each saliency."""
    texts = [path.read_text() for path in (Path(__file__).parents[1] / "saliency").glob("*.py")]
    assert any("twin" in text and kind.__name__ in text for text in texts)

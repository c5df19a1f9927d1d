"""What is a mixture, and what is refused by name."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

import secateur as sec
from secateur.granularity.mixture import find_mixtures
from secateur.trace.routers import routed
from tests import mixtures
from tests.mixtures import Dense, Expert, Sparse

X = torch.randn(9, 3)


def _refused(model: nn.Module, x: Tensor = X) -> dict[str, str]:
    """Why each is refused, where nothing is found."""
    groups = sec.groups(model, x, sec.Experts())
    assert not len(groups)
    return {fixed.name: fixed.why for fixed in groups.fixed}


def test_experts_that_are_not_alike() -> None:
    mixture = Sparse()
    mixture.experts[2] = Expert(hidden=7)
    assert _refused(mixtures.net(mixture)) == {
        "mixtures.0.experts": "they are not alike: mixtures.0.experts.2.up.weight has shape (7, 6),"
        " mixtures.0.experts.0.up.weight (5, 6)"
    }


def test_an_expert_with_a_tensor_more() -> None:
    mixture = Sparse()
    mixture.experts[1].register_buffer("scale", torch.ones(2))
    (why,) = _refused(mixtures.net(mixture)).values()
    assert "mixtures.0.experts.1 has scale of its own, mixtures.0.experts.0 not" in why


def test_experts_that_share_a_tensor() -> None:
    mixture = Sparse()
    mixture.experts[3].up.weight = mixture.experts[0].up.weight
    (why,) = _refused(mixtures.net(mixture)).values()
    assert "share tensors: mixtures.0.experts.0 has up.weight" in why


def test_without_a_router() -> None:
    class Mean(Dense):
        def forward(self, x: Tensor) -> Tensor:
            return sum(expert(x) for expert in self.experts)

    (why,) = _refused(mixtures.net(Mean())).values()
    assert "no Linear layer beside it" in why


def test_stacked_parameters_without_a_linear_router() -> None:
    class Plain(mixtures.Apart):
        def __init__(self) -> None:
            super().__init__()
            del self.router
            self.rows = nn.Parameter(torch.randn(4, 6))

        def forward(self, x: Tensor) -> Tensor:
            shares, chosen = (x @ self.rows.T).softmax(-1).topk(2, -1)
            return self.experts(x, chosen, shares)

    (name,) = why = _refused(mixtures.net(Plain()))
    assert name == "mixtures.0.experts"
    assert "no Linear layer beside it" in why[name]


def test_a_router_that_chooses_by_nothing_known() -> None:
    class Gated(Dense):
        def forward(self, x: Tensor) -> Tensor:
            shares = self.router(x).sigmoid()
            return sum(shares[:, i : i + 1] * e(x) for i, e in enumerate(self.experts))

    assert _refused(mixtures.net(Gated())).keys() == {"mixtures.0.experts"}


def test_a_router_of_another_size() -> None:
    mixture = Dense()
    mixture.router = nn.Linear(6, 5)
    assert _refused(mixtures.net(mixture)).keys() == {"mixtures.0.experts"}


def test_a_shared_router() -> None:
    one, other = Sparse(), Sparse()
    other.router = one.router
    why = _refused(mixtures.net(one, other))
    shared = "the router is shared: mixtures.0.router and mixtures.1.router"
    assert why.pop("mixtures.0.experts") == shared
    assert why.keys() == {"mixtures.1.experts"}


def test_routers_that_share_their_weight() -> None:
    one, other = Sparse(), Sparse()
    other.router.weight = one.router.weight
    why = _refused(mixtures.net(one, other))
    shared = "the router is shared: mixtures.0.router and mixtures.1.router"
    assert why["mixtures.0.experts"] == shared


def test_two_lists_of_one_router() -> None:
    class Two(Dense):
        def __init__(self) -> None:
            super().__init__()
            self.others = nn.ModuleList(Expert() for _ in range(4))

        def forward(self, x: Tensor) -> Tensor:
            shares = self.router(x).softmax(-1)
            pairs = zip(self.experts, self.others, strict=True)
            return sum(shares[:, i : i + 1] * (a(x) + b(x)) for i, (a, b) in enumerate(pairs))

    why = _refused(mixtures.net(Two()))["mixtures.0.experts"]
    assert why == "it could belong to each of mixtures.0.experts, mixtures.0.others"


def test_two_routers_of_one_list() -> None:
    class Twice(Dense):
        def __init__(self) -> None:
            super().__init__()
            self.second = nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            shares = self.router(x).softmax(-1) + self.second(x).softmax(-1)
            return sum(shares[:, i : i + 1] * e(x) for i, e in enumerate(self.experts))

    (why,) = _refused(mixtures.net(Twice())).values()
    assert why == "it has several routers: mixtures.0.router, mixtures.0.second"


def test_a_mixture_that_is_used_twice_is_one() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = self.second = Sparse()
            self.head = nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.second(self.first(x)))

    model, x = Twice(), torch.randn(9, 6)
    groups = sec.groups(model, x, sec.Experts())
    (group,) = groups
    plan = sec.Plan(groups, {group.name: torch.tensor([True, False, True, True])})
    small = sec.shrink(model, plan)
    assert small.first is small.second
    assert sec.certify(model, small, plan, x).exact


def test_attributes_that_count_the_experts() -> None:
    model = mixtures.net(mixtures.Numbered(), mixtures.Corrected())
    found, refused = find_mixtures(model, routed(model, X).routers)

    assert not refused
    assert [[str(a) for a in m.attributes] for m in found] == [
        ["mixtures.0.num_experts", "mixtures.0.router.out_features"],
        ["mixtures.1.gate.n_routed_experts", "mixtures.1.gate.linear.out_features"],
    ]


@pytest.mark.parametrize("count", [5, 6])  # as many as an expert is wide inside, or outside
def test_an_attribute_that_happens_to_be_the_same_number(count: int) -> None:
    class Wide(mixtures.Numbered):
        def __init__(self) -> None:
            super().__init__(count)
            self.width = count

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) / self.width

    model = mixtures.net(Wide())
    groups = sec.groups(model, X, sec.Experts())
    (group,) = groups
    plan = sec.Plan(groups, {group.name: torch.arange(count) > 1})
    small = sec.shrink(model, plan)
    assert (small.mixtures[0].num_experts, small.mixtures[0].width) == (count - 2, count)
    assert sec.certify(model, small, plan, X).exact


class Layers(nn.Module):
    """A list of layers, and a head with a softmax over as many classes."""

    SIZE: ClassVar = 4

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Expert() for _ in range(self.SIZE))
        self.head = nn.Linear(6, self.SIZE)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(x)
        return self.head(x).softmax(-1)


def test_a_list_of_layers_is_no_mixture() -> None:
    why = _refused(Layers(), torch.randn(5, 6))
    assert why == {"layers": "the outputs change their shape"}


def test_a_layer_of_a_list_is_no_router_of_it() -> None:
    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(4))
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = layer(x).softmax(-1)
            return self.head(x)

    assert "no Linear layer beside it" in _refused(Chain(), torch.randn(5, 4))["layers"]

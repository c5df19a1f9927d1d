from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.granularity import Channels
from secateur.types import Groups, Member, Place
from secateur.types.equation import Attribute, Constant, Count, Operation, attributes
from tests.trace.law import randomised


def found(model: nn.Module, *shape: int) -> Groups:
    return Channels().find(randomised(model), torch.randn(*shape, dtype=torch.float64))


class Dense(nn.Module):
    """Two branches side by side, flattened into a classifier, with a norm on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(3, 2, 1), nn.Conv1d(3, 3, 1)
        self.norm, self.head = nn.LayerNorm(5), nn.Linear(5 * 4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.a(x), self.b(x)], 1)
        return self.head(self.norm(x.mT).mT.flatten(1))


def one(groups: Groups, group: str, name: str, dim: int) -> Member:
    (member,) = [m for m in groups[group].members if (m.name, m.dims) == (name, (dim,))]
    return member


def test_members_say_which_index_belongs_to_which_unit() -> None:
    groups = found(Dense(), 2, 3, 4)

    assert one(groups, "a", "norm.weight", 0).unit_of.tolist() == [0, 1, -1, -1, -1]
    assert one(groups, "b", "norm.weight", 0).unit_of.tolist() == [-1, -1, 0, 1, 2]
    assert one(groups, "a", "head.weight", 1).unit_of.tolist() == [0] * 4 + [1] * 4 + [-1] * 12
    assert (
        one(groups, "b", "head.weight", 1).unit_of.tolist()
        == [-1] * 8 + [0] * 4 + [1] * 4 + [2] * 4
    )


def test_what_is_declared_stands_at_every_group_that_it_concerns() -> None:
    groups = found(Dense(), 2, 3, 4)

    for name in ("a", "b"):
        (place,) = groups[name].declared
        assert place.operator == "native_layer_norm"
        assert place.where.startswith("norm (test_collect.py:")


def test_shapes_and_parameters_of_everything() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    groups = found(model, 2, 3)

    assert groups.shapes == {n: tuple(t.shape) for n, t in model.state_dict().items()}
    assert groups.parameters == {n for n, _ in model.named_parameters()}


def test_activations_show_the_units() -> None:
    groups = found(Dense(), 2, 3, 4)
    seen = [(a.module, a.place, a.dim, a.unit_of.tolist()) for a in groups["b"].activations]

    both, flat = [-1, -1, 0, 1, 2], [-1] * 8 + [0] * 4 + [1] * 4 + [2] * 4
    assert seen == [
        ("b", Place.OUTPUT, 1, [0, 1, 2]),
        ("norm", Place.INPUT, 2, both),
        ("norm", Place.OUTPUT, 2, both),
        ("head", Place.INPUT, 1, flat),
    ]
    assert all(a.position == 0 and a.writer == "b.weight" for a in groups["b"].activations)


def test_what_two_layers_made_together_has_no_writer() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x).relu()
            return self.head((x + self.b(x)).relu())

    writers = [(a.module, a.place, a.writer) for a in found(Residual(), 2, 3)["a"].activations]

    assert writers == [
        ("a", Place.OUTPUT, "a.weight"),
        ("b", Place.INPUT, "a.weight"),
        ("b", Place.OUTPUT, "b.weight"),
        ("head", Place.INPUT, None),
    ]


def test_a_module_that_runs_twice_is_seen_where_both_runs_agree() -> None:
    class Twice(nn.Module):
        def __init__(self, *, same: bool) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(3, 4)
            self.shared, self.head, self.same = nn.ReLU(), nn.Linear(8, 2), same

        def forward(self, x: Tensor) -> Tensor:
            a = self.a(x)
            b = a * 2 if self.same else self.b(x)
            return self.head(torch.cat([self.shared(a), self.shared(b)], 1))

    same, different = found(Twice(same=True), 2, 3), found(Twice(same=False), 2, 3)

    assert "shared" in {a.module for a in same["a"].activations}
    assert "shared" not in {a.module for g in different for a in g.activations}


def test_products_and_what_they_cost() -> None:
    groups = found(Dense(), 2, 3, 4)
    found_ = {c.module: c for c in groups.contractions}

    assert {m: (c.weight, c.uses) for m, c in found_.items()} == {
        "a": ("a.weight", 8), "b": ("b.weight", 8), "head": ("head.weight", 2)
    }  # fmt: skip
    head = found_["head"]
    live = {"a": torch.tensor([True, False]), "b": torch.tensor([True, True, False])}
    sizes = [int(groups.extents[e].live(live).sum()) for e in head.extents]

    assert sorted(sizes) == [2, 12]
    assert head.fixed * 12 * 2 == 2 * 12 * 2


def test_equal_extents_and_equations_stand_once() -> None:
    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.width, self.a, self.head = 4, nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            for _ in range(3):
                x = x.view(-1, self.width).tanh()
            return self.head(x.view(x.shape[0], x.shape[1]))

    groups = found(Views(), 2, 3)
    keys = [(e.size, tuple((n, tuple(u.tolist())) for n, u in e.parts)) for e in groups.extents]
    mine = [
        e for e in groups.equations if Attribute("", "width", None, 4) in attributes(e.expression)
    ]

    assert len(set(keys)) == len(keys)
    assert len(mine) == 1
    assert not [e for e in groups.equations if e.expression == Count(e.extent)]


def test_expressions_are_rewritten_for_the_extents_that_are_kept() -> None:
    class Split(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.head, self.first = nn.Linear(3, 6), nn.Linear(4, 2), 2

        def forward(self, x: Tensor) -> Tensor:
            first, rest = (x := self.a(x)).split([self.first, x.shape[1] - self.first], 1)
            return self.head(rest) + first.sum(1, keepdim=True)

    groups = found(Split(), 2, 3)
    (difference,) = [e for e in groups.equations if isinstance(e.expression, Operation)]
    expression = difference.expression

    assert isinstance(expression, Operation)
    assert (expression.operator, expression.right) == ("-", Attribute("", "first", None, 2))
    assert isinstance(expression.left, Count)
    assert groups.extents[expression.left.extent].size == 6
    assert groups.extents[difference.extent].size == 4
    assert "split" in difference.where


class Tied(nn.Module):
    """One weight under two names, read by its columns and written by its rows."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix, self.head = nn.Embedding(7, 4), nn.Linear(4, 4), nn.Linear(4, 7)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mix(self.embed(x)).tanh())


def test_a_shared_tensor_is_one_member_under_its_first_name() -> None:
    groups = Channels().find(randomised(Tied()), torch.tensor([[0, 3], [6, 1]]))
    names = {m.name for g in groups for m in g.members}

    assert "head.weight" not in names
    # Columns are what mix reads and what the head reads: one group.
    assert one(groups, "embed", "embed.weight", 1).unit_of.tolist() == [0, 1, 2, 3]
    assert groups["embed"].size == 4
    assert "head.weight" not in groups.shapes


def test_fixed_lines_add_up_to_the_parameter() -> None:
    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.head = nn.Linear(3, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            return self.head(x) + x[:, :1] + x[:, 2:3]

    groups = found(Part(), 2, 3)
    held = sum(f.units for f in groups.fixed if f.name == "a.weight")
    units = int((one(groups, "a", "a.weight", 0).unit_of >= 0).sum())

    assert held + units == 6
    assert units == 3
    assert all(f.units > 0 for f in groups.fixed)


def test_numbers_are_declared_where_the_size_counts() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.width, self.a, self.b = 4, nn.Linear(3, 4), nn.Linear(4, 5)
            self.head = nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x).view(-1, self.width) / self.width**0.5
            return self.head(self.b(x).tanh())

    groups = found(Scaled(), 2, 3)

    assert [p.operator for p in groups["a"].declared] == ["size"]
    assert not groups["b"].declared


@pytest.mark.parametrize("value", [Constant(3), Count(0)])
def test_only_attributes_are_left_to_be_solved(value: Constant | Count) -> None:
    groups = found(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), 2, 3)

    assert value not in {e.expression for e in groups.equations}
    assert all(attributes(e.expression) for e in groups.equations)


def test_a_functional_weight_is_a_member_like_any() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.ParameterDict({"w": torch.randn(5, 3), "b": torch.randn(5)})
            self.last = nn.ParameterList([torch.randn(2, 5)])

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(F.linear(x, self.table["w"], self.table["b"]).tanh(), self.last[0])

    groups = found(Functional(), 2, 3)

    assert {(m.name, m.dims) for m in groups.groups[0].members} == {
        ("table.w", (0,)), ("table.b", (0,)), ("last.0", (1,))
    }  # fmt: skip

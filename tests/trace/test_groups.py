from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from secateur.cost.counts import macs
from secateur.granularity import Channels
from secateur.mask import shrink
from secateur.trace.groups import coupled_channels, weights
from secateur.types import Groups, Plan, Role
from tests.trace.law import assert_exact, free, plans, randomised

X = (2, 3, 4)


def found(model: nn.Module, *shape: int, keep: Any = ()) -> Groups:
    """Groups of a network on a normal example, tried in all ways."""
    given = torch.randn(*(shape or X), dtype=torch.float64)
    randomised(model)
    assert_exact(model, given, declared=True)
    return coupled_channels(model, given, keep)


def names(groups: Groups) -> list[str]:
    return [group.name for group in groups]


def members(groups: Groups, name: str) -> dict[tuple[str, int], list[int]]:
    return {(m.name, m.dims[0]): m.unit_of.tolist() for m in groups[name].members}


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.side = nn.Conv1d(3, 4, 1), nn.Conv1d(4, 4, 1)
        self.norm, self.head = nn.BatchNorm1d(4), nn.Conv1d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.norm(x + self.side(x.relu())))


def test_a_residual_sum_is_one_group_named_after_the_first() -> None:
    groups = found(Residual())
    order = [0, 1, 2, 3]

    assert names(groups) == ["stem"]
    assert members(groups, "stem") == {
        ("stem.weight", 0): order, ("stem.bias", 0): order, ("side.weight", 0): order,
        ("side.weight", 1): order, ("side.bias", 0): order, ("norm.weight", 0): order,
        ("norm.bias", 0): order, ("norm.running_mean", 0): order, ("norm.running_var", 0): order,
        ("head.weight", 1): order,
    }  # fmt: skip


def test_roles() -> None:
    groups = found(Residual())
    roles: dict[Role, set[tuple[str, int]]] = {}
    for m in groups["stem"].members:
        roles.setdefault(m.role, set()).add((m.name, m.dims[0]))

    assert roles == {
        Role.WRITES: {("stem.weight", 0), ("stem.bias", 0), ("side.weight", 0), ("side.bias", 0)},
        Role.READS: {("side.weight", 1), ("head.weight", 1)},
        Role.SCALES: {("norm.weight", 0), ("norm.bias", 0), ("norm.running_mean", 0),
                      ("norm.running_var", 0)},
    }  # fmt: skip


def test_what_is_fixed_is_named_with_its_reason() -> None:
    groups = found(Residual())
    fixed = {(f.name, f.operator): f for f in groups.fixed}

    assert set(fixed) == {("head.weight", "output"), ("head.bias", "output")}
    assert fixed["head.weight", "output"].units == 2
    assert "output of the model" in fixed["head.weight", "output"].why


def test_a_parameter_outside_any_module_names_its_group() -> None:
    class Loose(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Parameter(torch.randn(5, 3)), nn.Parameter(torch.randn(2, 5))

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(F.linear(x, self.first).tanh(), self.last)

    groups = found(Loose(), 2, 3)

    assert names(groups) == ["first"]
    assert members(groups, "first") == {("first", 0): [*range(5)], ("last", 1): [*range(5)]}


def test_two_groups_of_one_parameter_have_different_names() -> None:
    """A bilinear form: its rows and its columns are free."""

    class Form(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 5))
            self.left, self.right = nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(5))

        def forward(self, x: Tensor) -> Tensor:
            return x * (self.left @ (self.weight @ self.right.tanh()))

    groups = found(Form(), 2, 3)

    assert len(names(groups)) == len(set(names(groups))) == 2
    assert sorted(group.size for group in groups) == [4, 5]


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_a_parametrised_layer_names_its_group(norm: Any) -> None:
    layer = norm(nn.Linear(3, 5, dtype=torch.float64))
    groups = found(nn.Sequential(layer, nn.Tanh(), nn.Linear(5, 2)), 2, 3)

    assert names(groups) == ["0"]


def test_groups_and_units_come_in_the_order_of_the_run() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c, self.b, self.a = nn.Linear(5, 2), nn.Linear(4, 5), nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(self.b(self.a(x).tanh()).flip(1).tanh())

    groups = found(Backwards(), 2, 3)

    assert names(groups) == ["a", "b"]
    assert members(groups, "b") == {
        ("b.weight", 0): [*range(5)], ("b.bias", 0): [*range(5)], ("c.weight", 1): [*range(5)][::-1]
    }  # fmt: skip


def test_layers_joined_in_a_chain() -> None:
    """a meets b and b meets c, in different runs of one module: one group."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.wide, self.head = nn.Linear(4, 4), nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.inner(self.inner(self.wide(x)).tanh()).tanh())

    groups = found(Twice(), 2, 3)

    assert names(groups) == ["wide"]
    assert free(groups, "inner.weight:0") == free(groups, "inner.weight:1") == 4
    assert [c.module for c in groups.contractions] == ["wide", "inner", "inner", "head"]


# ---- keep -----------------------------------------------------------------------------------


def two_layers() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))


def test_what_is_kept_has_no_units() -> None:
    groups = found(two_layers(), 2, 3, keep={"2.weight"})
    kept = [f for f in groups.fixed if f.operator == "keep"]

    assert names(groups) == ["0"]  # what a kept layer reads may still go
    assert {f.name for f in kept} == {"2.weight", "2.bias"}
    assert all(f.why == "was asked to stay" for f in kept)


def test_keeping_a_member_keeps_the_whole_group() -> None:
    assert names(found(Residual(), keep={"side.bias"})) == []
    assert names(found(Residual(), keep={"norm.running_var"})) == []


def test_keeping_what_only_reads_keeps_nothing() -> None:
    groups = found(
        nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), 2, 3, keep={"2.weight"}
    )

    assert names(groups) == ["0"]


# ---- what must stay whole -------------------------------------------------------------------


class Heads(nn.Module):
    """`C // heads` in the code: heads and width cannot shrink apart."""

    def __init__(self, width: int, heads: int, *, literal: bool = False) -> None:
        super().__init__()
        self.heads, self.literal = heads, literal
        self.qkv, self.out = nn.Linear(3, 3 * width), nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        qkv = self.qkv(x)
        c = qkv.shape[-1] // 3
        q, k, v = qkv.reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        y = ((q @ k.transpose(-2, -1)) * 0.3).softmax(-1) @ v
        return self.out(y.transpose(1, 2).reshape(b, n, c))


def test_sizes_that_the_code_computes_are_followed_or_refused() -> None:
    model = randomised(Heads(12, 3))
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    groups = coupled_channels(model, x)
    for plan in plans(groups):
        small = shrink(model, plan)
        width = small.out.in_features

        assert small.qkv.out_features == 3 * width
        assert width % small.heads == 0

    assert groups.units >= 3
    assert_exact(model, x)


def test_halves_that_meet_are_what_the_code_computes() -> None:
    """Index i of both halves meets, so both lose the same, and the half is still a half."""

    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.head = nn.Linear(3, 6), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.wide(x)
            return self.head(x[:, : x.shape[1] // 2] - 2 * x[:, x.shape[1] // 2 :])

    groups = found(Half(), 2, 3)

    assert names(groups) == ["wide"]
    assert groups["wide"].size == 3


class Uneven(nn.Module):
    """The first third and the rest, by the width that there is."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.a, self.b = nn.Linear(3, 6), nn.Linear(2, 2), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.wide(x)
        third = x.shape[1] // 3
        return self.a(x[:, :third]) + self.b(x[:, third:])


def test_a_size_that_cannot_follow_is_refused_with_its_place() -> None:
    groups = found(Uneven(), 2, 3)
    held = {f.why: f for f in groups.fixed if f.name == "wide.weight"}
    refused = held["the code computes a size that cannot follow"]

    assert names(groups) == []
    assert refused.operator == "__getitem__"
    assert "test_groups.py:" in refused.where
    assert sum(f.units for f in held.values()) == 6


def test_one_attribute_for_two_widths_refuses_both() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.width = 4
            self.a, self.b, self.head = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            a = self.a(x).view(-1, self.width).tanh()
            b = self.b(x).view(-1, self.width).tanh()
            return self.head(torch.cat([a, b], 1))

    groups = found(Shared(), 2, 3)

    assert names(groups) == []
    assert {f.operator for f in groups.fixed if f.name in ("a.weight", "b.weight")} == {"view"}


def test_a_choice_that_leaves_nothing_to_remove_is_undone() -> None:
    """One row of 2 x 5: choosing rows would make everything one unit."""

    class Pool(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.norm, self.head = (
                nn.Linear(3, 10),
                nn.GroupNorm(1, 10),
                nn.Linear(10, 2),
            )

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.norm(self.wide(x)))

    groups = found(Pool(), 2, 3)

    assert names(groups) == ["wide"]
    assert groups["wide"].size == 10
    assert groups["wide"].declared


def test_no_tensor_comes_out_empty() -> None:
    """Only a part of the channels goes on: one of them stays, whatever is removed."""

    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.split = nn.Linear(3, 6), 2
            self.a, self.b = nn.Linear(2, 2), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.wide(x)
            return self.a(x[:, : self.split]) + self.b(x[:, self.split :])

    model = randomised(Part())
    x = torch.randn(2, 3, dtype=torch.float64)
    groups = coupled_channels(model, x)
    (group,) = groups.groups
    for kept in range(group.size):
        plan = Plan(groups, {group.name: torch.arange(group.size) == kept})
        small = shrink(model, plan)

        assert all(p.numel() for p in small.parameters())
        assert small(x).shape == (2, 2)

    fixed = {f.why for f in groups.fixed if f.name == "wide.weight"}

    assert fixed == {"is the last of its kind"}
    assert group.size == 4


def test_a_single_channel_is_no_group() -> None:
    groups = found(nn.Sequential(nn.Linear(3, 1), nn.Tanh(), nn.Linear(1, 2)), 2, 3)

    assert names(groups) == []
    assert {f.why for f in groups.fixed if f.name == "0.weight"} == {"has no channels"}


def test_a_parameter_that_took_no_part() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(3, 2), nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)

    groups = found(Idle(), 2, 3)
    why = {f.name: f.why for f in groups.fixed}

    assert why["idle.weight"] == why["idle.bias"] == "took no part in the run"


# ---- units are independent ------------------------------------------------------------------


def test_any_half_of_everything_can_go() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.depth = nn.Conv1d(3, 8, 1), nn.Conv1d(8, 16, 1, groups=4)
            self.norm, self.mix = nn.GroupNorm(4, 16), nn.Conv1d(16, 6, 1)
            self.head = nn.Linear(6 * 4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.mix(self.norm(self.depth(self.stem(x).relu()))).relu().flatten(1))

    model = randomised(Mixed())
    x = torch.randn(*X, dtype=torch.float64)
    groups = coupled_channels(model, x)
    for seed in range(6):
        draw = torch.Generator().manual_seed(seed)
        masks = {}
        for group in groups:
            masks[group.name] = torch.rand(group.size, generator=draw) > 0.5
            masks[group.name][0] = True
        plan = Plan(groups, masks)
        if plan.removed:
            assert shrink(model, plan)(x).shape == (2, 2)


# ---- weights --------------------------------------------------------------------------------


def test_products_without_groups() -> None:
    model = randomised(two_layers())
    groups = weights(model, torch.randn(2, 3, dtype=torch.float64))

    assert not groups.groups
    assert [c.weight for c in groups.contractions] == ["0.weight", "2.weight", "4.weight"]
    assert macs(groups) == 2 * (3 * 4 + 4 * 5 + 5 * 2)
    assert not any(extent.parts for extent in groups.extents)


def test_the_same_network_gives_the_same_groups() -> None:
    model, x = randomised(Residual()), torch.randn(*X, dtype=torch.float64)

    assert str(coupled_channels(model, x)) == str(Channels().find(model, x))

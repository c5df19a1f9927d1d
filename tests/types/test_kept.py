from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from secateur.types import Group, Groups, Member, Role
from secateur.types.kept import as_mask, kept, per_unit, spread, written
from tests.types.made import SHAPES, masks, members, plans


def _member(dims: tuple[int, ...], unit_of: list[int], role: Role = Role.WRITES) -> Member:
    return Member("w", (), dims, torch.tensor(unit_of), role)


def _kept_twin(groups: Groups, chosen: dict[str, Tensor], name: str, at: tuple[int, ...]) -> bool:
    """Whether one element of a tensor stays: it does unless a member says that its unit goes."""
    shape = groups.shapes[name]
    for group in groups:
        for member in group.members:
            if member.name != name or group.name not in chosen:
                continue
            row = 0
            for dim in member.dims:
                row = row * shape[dim] + at[dim]
            unit = int(member.unit_of[row])
            if unit >= 0 and not bool(chosen[group.name][unit]):
                return False
    return True


@given(plans(), st.data())
def test_kept_agrees_with_a_walk_over_every_element(plan, data) -> None:  # type: ignore[no-untyped-def]
    names = sorted(plan.masks)
    some = set(data.draw(st.lists(st.sampled_from(names)))) if names else set()
    chosen = {name: plan.masks[name] for name in some}
    live = kept(plan.groups, chosen)
    for name, shape in plan.groups.shapes.items():
        whole = as_mask(live.get(name, {}), shape).expand(shape)
        for at in itertools.product(*map(range, shape)):
            assert bool(whole[at]) == _kept_twin(plan.groups, chosen, name, at)


@given(plans())
def test_kept_names_only_tensors_that_have_a_member(plan) -> None:  # type: ignore[no-untyped-def]
    owners = {member.name for group in plan.groups for member in group.members}
    assert set(kept(plan.groups, plan.masks)) == owners


@st.composite
def scored(draw: st.DrawFn) -> tuple[Tensor, Member, int]:
    """A tensor of whole numbers, so that sums are exact in any order, with a member over it."""
    shape, units = draw(SHAPES), draw(st.integers(1, 6))
    member = draw(members("w", shape, units))
    count = math.prod(shape)
    entries = draw(st.lists(st.integers(-99, 99), min_size=count, max_size=count))
    return torch.tensor(entries, dtype=torch.float32).reshape(shape), member, units


@given(scored())
def test_per_unit_agrees_with_a_walk_over_every_element(case: tuple[Tensor, Member, int]) -> None:
    tensor, member, units = case
    expected = torch.zeros(units)
    for at in itertools.product(*map(range, tensor.shape)):
        row = 0
        for dim in member.dims:
            row = row * tensor.shape[dim] + at[dim]
        unit = int(member.unit_of[row])
        if unit >= 0:
            expected[unit] += tensor[at]
    assert torch.equal(per_unit(tensor, member, units), expected)


@given(scored())
def test_what_is_masked_adds_nothing_to_its_unit(case: tuple[Tensor, Member, int]) -> None:
    tensor, member, units = case
    mask = torch.zeros(units, dtype=torch.bool)
    masked = tensor * as_mask({member.dims: spread(mask, member)}, tuple(tensor.shape))
    assert not per_unit(masked, member, units).any()


@given(st.data())
def test_spread_leaves_what_belongs_to_no_unit(data) -> None:  # type: ignore[no-untyped-def]
    member = data.draw(members("w", data.draw(SHAPES), 4))
    group = Group("g", "channel", 4, (member,))
    mask = data.draw(masks(group))
    expected = [unit < 0 or bool(mask[unit]) for unit in member.unit_of.tolist()]
    assert spread(mask, member).tolist() == expected


def test_flatten_gives_a_channel_all_its_pixels() -> None:
    # two channels of 1x2 pixels, flattened into a Linear with three outputs
    member = _member((1,), [0, 0, 1, 1], Role.READS)
    weight = torch.arange(12.0).reshape(3, 4)
    assert per_unit(weight, member, 2).tolist() == [0 + 1 + 4 + 5 + 8 + 9, 2 + 3 + 6 + 7 + 10 + 11]


def test_single_weights_are_their_own_units() -> None:
    member = _member((0, 1), list(range(6)))
    weight = torch.arange(6.0).reshape(2, 3)
    assert torch.equal(per_unit(weight, member, 6), weight.flatten())


def test_two_groups_on_one_dim_are_joined_by_and() -> None:
    first = Group("a", "channel", 2, (_member((0,), [0, 1, -1, 0]),))
    second = Group("b", "channel", 2, (_member((0,), [0, 0, 1, 1]),))
    groups = Groups((first, second), shapes={"w": (4,)})
    chosen = {"a": torch.tensor([True, False]), "b": torch.tensor([True, False])}
    assert kept(groups, chosen)["w"][0,].tolist() == [True, False, False, False]


def test_a_tensor_without_members_is_kept_whole() -> None:
    assert as_mask({}, (2, 3)).expand(2, 3).all()
    assert as_mask({}, ()).shape == ()


def test_dims_that_do_not_ascend_are_refused() -> None:
    with pytest.raises(ValueError, match="ascend"):
        as_mask({(1, 0): torch.ones(6, dtype=torch.bool)}, (2, 3))


def test_writers_come_first_where_there_are_any() -> None:
    writer, reader = _member((0,), [0], Role.WRITES), _member((1,), [0], Role.READS)
    assert written(Group("g", "channel", 1, (reader, writer))) == (writer,)
    assert written(Group("g", "channel", 1, (reader,))) == (reader,)

from __future__ import annotations

import pytest
import torch
from hypothesis import given

from secateur import errors
from secateur.types import Declared, Extent, Fixed, Group, Groups, Member, Plan, Role
from tests.types.made import plans


def _groups(count: int = 2) -> Groups:
    names = [f"layer{i}" for i in range(count)]
    return Groups(
        tuple(
            Group(
                name,
                "channel",
                3,
                (Member(f"{name}.weight", (3, 2), (0,), torch.arange(3), Role.WRITES),),
                declared=(Declared("native_layer_norm", "norm (net.py:7)"),),
            )
            for name in names
        ),
        (Fixed("fc.weight", 10, "output", "", "the outputs of the network"),),
        {f"{name}.weight": (3, 2) for name in names},
    )


def test_groups_are_a_collection_by_name() -> None:
    groups = _groups()
    assert [group.name for group in groups] == ["layer0", "layer1"]
    assert groups["layer1"].name == "layer1"
    assert "layer0" in groups
    assert "fc" not in groups
    assert len(groups) == 2
    assert groups.units == 6


def test_an_unknown_group_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(errors.UnknownNameError) as caught:
        _groups()["layer7"]
    assert caught.value.hint == "known groups: layer0, layer1"


def test_a_long_list_of_known_groups_is_cut() -> None:
    with pytest.raises(errors.UnknownNameError) as caught:
        _groups(12)["x"]
    assert caught.value.hint.endswith("layer7, ...")


def test_where_nothing_can_be_pruned_the_hint_says_so() -> None:
    with pytest.raises(errors.UnknownNameError) as caught:
        Groups(())["x"]
    assert caught.value.hint == "nothing here can be pruned"


def test_printing_tells_groups_members_and_what_is_fixed() -> None:
    assert str(_groups(1)).splitlines() == [
        "1 groups, 3 units that can be pruned",
        "layer0: 3 channels",
        "    writes layer0.weight [dim 0]",
        "    declared: native_layer_norm at norm (net.py:7)",
        "1 parameters with units that cannot be pruned:",
        "    fc.weight: 10 held by output: the outputs of the network",
    ]


@given(plans())
def test_extents_agree_with_a_walk_over_every_index(plan: Plan) -> None:
    for extent in plan.groups.extents:
        live = extent.live(plan.masks)
        assert live.shape == (extent.size,)
        for i in range(extent.size):
            units = [(name, int(unit_of[i])) for name, unit_of in extent.parts]
            stays = all(unit < 0 or bool(plan.masks[name][unit]) for name, unit in units)
            assert bool(live[i]) == stays


def test_a_group_without_a_mask_is_kept_whole() -> None:
    assert Extent(3, (("a", torch.tensor([0, 1, -1])),)).live({}).all()


def test_an_extent_of_any_number_is_counted_without_making_room_for_it() -> None:
    assert Extent(10**15).count({"a": torch.zeros(3, dtype=torch.bool)}) == 10**15
    part = ("a", torch.tensor([0, 1, 2, -1]))
    extent = Extent(4, (part,))
    masks = {"a": torch.tensor([True, False, False])}
    assert extent.count(masks) == int(extent.live(masks).sum()) == 2

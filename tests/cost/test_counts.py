from __future__ import annotations

import math
import time
from collections.abc import Mapping

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from secateur.cost import count_macs, count_params, macs, macs_by_module, params
from secateur.types import Contraction, Extent, Group, Groups, Member, Role
from tests.handmade import CLASSES, SIDE, channels, example, inside, net, rows
from tests.types import made

MASKS = {
    "conv1": torch.tensor([1, 1, 0, 1, 0, 0], dtype=torch.bool),
    "conv2": torch.tensor([1, 0, 0, 0, 1, 0, 1, 0], dtype=torch.bool),
}


def test_dense_counts_agree_with_the_network_itself() -> None:
    model = net()
    groups = channels(model)
    assert params(groups) == count_params(model)
    assert macs(groups) == count_macs(model, example())


def test_masked_counts_agree_with_a_network_built_that_small() -> None:
    groups, small = channels(net()), net(first=3, second=3)
    assert params(groups, MASKS) == count_params(small)
    assert macs(groups, MASKS) == count_macs(small, example())


def test_macs_by_module_are_those_of_each_layer() -> None:
    places = 2 * SIDE * SIDE
    assert macs_by_module(channels(net()), MASKS) == {
        "conv1": places * 3 * 9 * 3,
        "conv2": places * 3 * 9 * 3,
        "fc": 2 * 3 * SIDE * SIDE * CLASSES,
    }


def test_a_group_without_a_mask_is_whole() -> None:
    groups = channels(net())
    one = {"conv1": MASKS["conv1"]}
    whole = one | {"conv2": torch.ones(8, dtype=torch.bool)}
    assert macs(groups, one) == macs(groups, whole) < macs(groups)
    assert params(groups, one) == params(groups, whole) < params(groups)


@pytest.mark.parametrize("kind", ["weight", "kernel"])
def test_units_inside_weights_cost_what_they_are_used(kind: str) -> None:
    model = net()
    groups = inside(model, kind)
    masks = {g.name: torch.rand(g.size) < 0.4 for g in groups}
    assert macs(groups) == count_macs(model, example())
    expected_macs, expected_params = 0, 0
    for group in groups:
        shape = model.get_parameter(f"{group.name}.weight").shape
        each = 1 if kind == "weight" else math.prod(shape[2:])
        left = int(masks[group.name].sum()) * each
        expected_params += left
        expected_macs += left * (2 if group.name == "fc" else 2 * SIDE * SIDE)
    rest = count_params(model) - sum(
        model.get_parameter(f"{g.name}.weight").numel() for g in groups
    )
    assert macs(groups, masks) == expected_macs
    assert params(groups, masks) == expected_params + rest


def test_members_of_one_tensor_may_overlap() -> None:
    """Rows of a 3 x 4 weight as channels, and its single weights besides."""
    rows_of = Group("r", "channel", 3, (Member("w", (3, 4), (0,), torch.arange(3), Role.WRITES),))
    single = Group("s", "weight", 12, (Member("w", (3, 4), (0, 1), torch.arange(12), Role.WRITES),))
    product = Contraction("l", "mm", 4, (0,), "w", 5)
    extent = Extent(3, (("r", torch.arange(3)),))
    groups = Groups((rows_of, single), (), {"w": (3, 4)}, frozenset("w"), (extent,), (product,))
    masks = {"r": torch.tensor([True, False, True]), "s": torch.arange(12) % 2 == 0}
    assert params(groups, masks) == 4
    assert macs(groups, masks) == 20


def plain_elements(groups: Groups, masks: Mapping[str, Tensor], name: str) -> int:
    """The slow twin: one bool an element, one loop an index."""
    shape = groups.shapes[name]
    stays = torch.ones(shape, dtype=torch.bool)
    for group in groups:
        for member in group.members:
            if member.name != name or group.name not in masks:
                continue
            for index, unit in enumerate(member.unit_of.tolist()):
                if unit >= 0 and not masks[group.name][unit]:
                    place: list[object] = [slice(None)] * len(shape)
                    rest = index
                    for dim in reversed(member.dims):
                        place[dim] = rest % shape[dim]
                        rest //= shape[dim]
                    stays[tuple(place)] = False
    return int(stays.sum())


@given(st.data())
def test_params_agree_with_the_plain_twin(data: st.DataObject) -> None:
    groups = data.draw(made.groups())
    masks = {g.name: data.draw(made.masks(g)) for g in groups if data.draw(st.booleans())}
    assert params(groups, masks) == sum(plain_elements(groups, masks, n) for n in groups.parameters)


@given(st.data())
def test_macs_agree_with_the_plain_twin(data: st.DataObject) -> None:
    groups = data.draw(made.groups())
    masks = {g.name: data.draw(made.masks(g)) for g in groups}
    inner = {m.name for g in groups for m in g.members if len(m.dims) > 1}
    expected = 0
    for contraction in groups.contractions:
        if contraction.weight in inner:
            expected += contraction.uses * plain_elements(groups, masks, str(contraction.weight))
            continue
        count = contraction.fixed
        for number in contraction.extents:
            extent = groups.extents[number]
            count *= sum(
                all(v[i] < 0 or bool(masks[name][v[i]]) for name, v in extent.parts)
                for i in range(extent.size)
            )
        expected += count
    assert macs(groups, masks) == expected
    assert sum(macs_by_module(groups, masks).values()) == expected


@given(st.data())
def test_counts_never_rise_when_units_go(data: st.DataObject) -> None:
    groups = data.draw(made.groups())
    more = {g.name: data.draw(made.masks(g)) for g in groups}
    less = {name: mask & data.draw(made.masks(groups[name])) for name, mask in more.items()}
    assert params(groups, less) <= params(groups, more)


def test_counting_two_hundred_layers_takes_milliseconds() -> None:
    groups = rows([256] * 200)
    masks = {group.name: torch.rand(256) < 0.5 for group in groups}
    took = []
    for _ in range(5):
        begin = time.process_time()
        macs(groups, masks)
        params(groups, masks)
        took.append(time.process_time() - begin)
    assert min(took) < 0.25  # measured: 0.01 to 0.02 s

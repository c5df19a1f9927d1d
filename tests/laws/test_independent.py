"""Units are independent: asking 30 % of one group removes 30 % of it, and of nothing else."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn

from tests.laws.removal import Prepared, planned_shapes, random_masks, remove, shapes

OUT_DIM = {nn.ConvTranspose1d: 1, nn.ConvTranspose2d: 1, nn.ConvTranspose3d: 1, nn.Embedding: 1}
ALONE = 4


def test_an_index_belongs_to_one_unit(prepared: Prepared) -> None:
    """Where two groups share indices of one dim, the share that each removes compounds."""
    owner: dict[tuple[str, tuple[int, ...], int], str] = {}
    for group in prepared.groups:
        for member in group.members:
            assert int(member.unit_of.min()) >= -1, (group.name, member.name)
            assert int(member.unit_of.max()) < group.size, (group.name, member.name)
            for index in (member.unit_of >= 0).nonzero().flatten().tolist():
                key = (member.name, member.dims, index)

                assert key not in owner, (key, owner[key], group.name)

                owner[key] = group.name


def test_every_unit_owns_something_written(prepared: Prepared) -> None:
    for group in prepared.groups:
        owned = torch.cat([member.unit_of for member in group.members])

        assert set(range(group.size)) <= set(owned.tolist()), group.name


def test_a_share_of_a_group_is_that_share_of_its_layer(prepared: Prepared) -> None:
    """The layer that gives a group its name loses the share of its channels that was asked."""
    losing = prepared.losing()
    if len(losing) > ALONE:
        losing = random.Random(prepared.seed).sample(losing, ALONE)
    modules = dict(prepared.model.named_modules())
    for group in losing:
        masks = random_masks(prepared.groups, prepared.seed, only=[group.name])
        planned = planned_shapes(prepared.groups, masks)
        small = remove(prepared, masks).small

        assert shapes(small) == planned

        module = modules.get(group.name)
        weight = f"{group.name}.weight"
        if module is None or weight not in planned:
            continue
        dim = OUT_DIM.get(type(module), 0)
        before, after = prepared.groups.shapes[weight][dim], planned[weight][dim]
        if not any(m.name == weight and dim in m.dims for m in group.members):
            continue
        rows = torch.cat(
            [m.unit_of for m in group.members if m.name == weight and m.dims == (dim,)]
        )
        units = rows[rows >= 0].unique()  # this layer may write a part of the group only
        asked = float((~masks[group.name][units]).float().mean())
        lost = (before - after) / int((rows >= 0).sum())

        assert lost == pytest.approx(asked), group.name


def test_grouped_convolutions_keep_equal_groups(prepared: Prepared) -> None:
    if not prepared.losing():
        return
    small = remove(prepared, random_masks(prepared.groups, prepared.seed)).small
    for name, module in small.named_modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            out, inner = module.weight.shape[:2]

            assert module.out_channels == out, name
            assert module.in_channels == inner * module.groups, name
            assert out % module.groups == 0, name

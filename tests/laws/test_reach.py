"""What the tracer must reach, and how it must name what it does not."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

import secateur as sec
from tests.laws.removal import Prepared

WRITERS = (
    nn.Linear,
    nn.Bilinear,
    nn.Embedding,
    nn.EmbeddingBag,
    nn.RNNBase,
    nn.RNNCellBase,
    _ConvNd,
)


def _matches(operator: str, globs: str) -> bool:
    return any(fnmatchcase(operator, glob) for glob in globs.split("|"))


def _holders(groups: sec.Groups, member: str) -> list[sec.Group]:
    """The groups with more than one unit on a dim of a tensor."""
    name, _, dim = member.rpartition(":")
    return [
        group
        for group in groups
        if group.size > 1 and any(m.name == name and int(dim) in m.dims for m in group.members)
    ]


def test_enough_units_are_free(prepared: Prepared) -> None:
    assert prepared.groups.units >= prepared.net.expect.units, str(prepared.groups)


def test_what_must_be_prunable_is(prepared: Prepared) -> None:
    missing = [m for m in prepared.net.expect.prunes if not _holders(prepared.groups, m)]

    assert not missing, str(prepared.groups)


def test_what_cannot_be_pruned_is_refused_by_operator(prepared: Prepared) -> None:
    for name, operators in prepared.net.expect.refuses:
        found = [fixed for fixed in prepared.groups.fixed if fixed.name == name]

        assert any(_matches(fixed.operator, operators) for fixed in found), (name, found)


def test_what_changes_statistics_is_declared(prepared: Prepared) -> None:
    for member, operators in prepared.net.expect.declares:
        for group in _holders(prepared.groups, member):
            found = [place.operator for place in group.declared]

            assert any(_matches(operator, operators) for operator in found), (group.name, found)


def test_every_refusal_says_where_and_why(prepared: Prepared) -> None:
    for fixed in prepared.groups.fixed:
        assert fixed.operator, fixed
        assert fixed.why, fixed
        assert fixed.units > 0, fixed
        assert fixed.name in prepared.groups.shapes, fixed
    for group in prepared.groups:
        for place in group.declared:
            assert place.operator, (group.name, place)
            assert place.where, (group.name, place)


def test_no_parameter_is_passed_over_in_silence(prepared: Prepared) -> None:
    told = {member.name for group in prepared.groups for member in group.members}
    told |= {fixed.name for fixed in prepared.groups.fixed}

    assert not {name for name, _ in prepared.model.named_parameters()} - told


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported")  # torch's own, float32
def test_the_same_is_found_twice_and_in_single_precision(prepared: Prepared) -> None:
    net, seed = prepared.net, prepared.seed
    model, example = net.model(seed, torch.float32), net.inputs(seed + 9, torch.float32)
    again = sec.groups(model, example, sec.Channels())

    assert _structure(again) == _structure(prepared.groups)


def _structure(groups: sec.Groups) -> dict[str, object]:
    return {
        group.name: sorted(
            (m.name, m.dims, tuple(m.unit_of.tolist()), m.role.value) for m in group.members
        )
        for group in groups
    }

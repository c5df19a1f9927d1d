from __future__ import annotations

import pytest
import torch

from secateur.saliency.portions import Portion, consumers, producers
from secateur.types import Place, Role
from tests.saliency.cases import case
from tests.zoo import more, traps


def layers(portions: tuple[Portion, ...]) -> dict[str, list[str]]:
    return {
        portion.group.name.partition(" (")[2].removesuffix(")"): [
            member.name for member in portion.group.members
        ]
        for portion in portions
    }


def test_a_residual_sum_has_two_producers_each_with_its_norm() -> None:
    group = case("resnext").groups["stem.0"]
    found = layers(producers(group))
    norm = ["weight", "bias", "running_mean", "running_var"]
    assert found == {
        "stem.0": ["stem.0.weight", *(f"stem.1.{n}" for n in norm)],
        "expand": ["expand.weight", *(f"norm3.{n}" for n in norm)],
    }
    assert layers(consumers(group)) == {"into reduce": ["reduce.weight"]}  # the head is linear


def test_a_layer_that_reads_and_writes_is_both_and_a_norm_of_several_is_nobodys() -> None:
    group = case("repvgg").groups["stem"]
    found = layers(producers(group))
    assert list(found) == ["stem", "wide.0", "point.0"]
    assert found["stem"][:2] == ["stem.weight", "stem.bias"]
    assert list(layers(consumers(group))) == ["into wide.0", "into point.0"]


def test_behind_a_concatenation_units_are_numbered_anew() -> None:
    group = case("residual_over_concat").groups["left"]
    left, right, back = producers(group)
    assert [p.group.size for p in (left, right, back)] == [7, 11, 18]
    assert left.units.tolist() == list(range(7))
    assert right.units.tolist() == list(range(7, 18))
    assert right.group.members[0].unit_of.tolist() == [-1, *range(11)]
    assert right.group.activations[0].unit_of.tolist() == [-1, *range(11)]
    spread = right.spread(torch.arange(1.0, 12.0), 18, -5.0)
    assert spread.tolist() == [-5.0] * 7 + [float(i) for i in range(1, 12)]
    activation = next(a for a in group.activations if a.writer == "back.weight")
    assert right.renumbered(activation).unit_of.tolist() == [-1] * 9 + list(range(11))


def test_parametrised_weights_and_their_bias_are_one_layer() -> None:
    group = case("weight_norm").groups["mid"]
    (only,) = producers(group)
    assert {name.partition(".")[0] for name in only.writers} == {"mid"}
    assert len(only.writers) == 3


def test_consumers_are_seen_by_their_input() -> None:
    group = case("resnext").groups["grouped"]
    (expand,) = consumers(group)
    (member,) = expand.group.members
    assert (member.role, member.dims) == (Role.WRITES, (1,))
    assert [(a.module, a.place, a.writer) for a in expand.group.activations] == [
        ("expand", Place.INPUT, "expand.weight")
    ]


@pytest.mark.parametrize("net", [*more.NETS, *traps.NETS], ids=str)
def test_every_unit_of_every_network_has_a_producer(net: object) -> None:
    made = case(str(net))
    for group in made.groups:
        portions = producers(group)
        covered = torch.cat([portion.units for portion in portions])
        assert sorted(set(covered.tolist())) == list(range(group.size))
        writing = {m.name for m in group.members if m.role is Role.WRITES}
        assert frozenset[str]().union(*(p.writers for p in portions)) == writing
        for portion in (*portions, *consumers(group)):
            for member in portion.group.members:
                inside = member.unit_of[member.unit_of >= 0]
                assert not len(inside) or int(inside.max()) < portion.group.size
            writers = [m.unit_of for m in portion.group.members if m.role is Role.WRITES]
            if writers:
                assert set(range(portion.group.size)) <= set(torch.cat(writers).tolist())

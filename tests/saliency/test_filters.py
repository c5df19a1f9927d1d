from __future__ import annotations

import torch

from secateur.saliency.filters import filters
from secateur.types import Group, Member, Role


def group(*members: Member, size: int = 4) -> Group:
    return Group("g", "channel", size, members)


def member(name: str, shape: tuple[int, ...], unit_of: list[int], role: Role) -> Member:
    return Member(name, shape, (0,), torch.tensor(unit_of), role)


WEIGHT = member("weight", (4, 3), [0, 1, 2, 3], Role.WRITES)
PART = member("part", (2, 3), [0, 2], Role.WRITES)
BIAS = member("bias", (4,), [0, 1, 2, 3], Role.WRITES)
GAIN = member("gain", (4,), [0, 1, 2, 3], Role.SCALES)
READER = member("reader", (4, 9), [0, 1, 2, 3], Role.READS)


def test_biases_gains_and_readers_are_no_filters() -> None:
    assert filters(group(WEIGHT, BIAS, GAIN, READER)) == (WEIGHT,)


def test_vectors_stand_for_units_that_have_nothing_else() -> None:
    alone, rest = filters(group(PART, BIAS, READER))
    assert alone is PART
    assert (rest.name, rest.unit_of.tolist()) == ("bias", [-1, 1, -1, 3])
    assert filters(group(BIAS, READER))[0].unit_of.tolist() == [0, 1, 2, 3]


def test_where_nothing_writes_all_members_stand_for_the_units() -> None:
    assert filters(group(READER, GAIN)) == (READER,)


def test_what_belongs_to_no_unit_makes_no_filter_of_a_vector() -> None:
    fixed = member("fixed", (5,), [0, 1, -1, 2, 3], Role.WRITES)
    assert filters(group(WEIGHT, fixed)) == (WEIGHT,)

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given

from secateur.types import Contraction, Equation, Extent, Group, Groups, Least, Member, Role
from secateur.types.equation import Count
from secateur.types.storage import pack_groups, unpack_groups
from tests.types.made import groups
from tests.types.same import same

EXAMPLE = Groups(
    (
        Group(
            "conv",
            "channel",
            4,
            (
                Member("conv.weight", (4, 3, 3, 3), (0,), torch.arange(4), Role.WRITES),
                Member("fc.weight", (6, 8), (1,), torch.arange(8) // 2, Role.READS),
            ),
            pattern=(1, 2),
        ),
        Group(
            "fc", "weight", 6, (Member("fc.weight", (6, 8), (0,), torch.arange(6), Role.WRITES),)
        ),
    ),
    shapes={"conv.weight": (4, 3, 3, 3), "fc.weight": (6, 8)},
    parameters=frozenset({"conv.weight", "fc.weight"}),
    extents=(Extent(4, (("conv", torch.arange(4)),)),),
    contractions=(Contraction("conv", "convolution", 27, (0,), "conv.weight"),),
    equations=(Equation(Count(0), 0, "net.py:3"),),
)


@given(groups())
def test_everything_survives_packing(found: Groups) -> None:
    header, tensors = pack_groups(found)
    assert same(unpack_groups(json.loads(json.dumps(header)), tensors), found)


def test_equal_index_vectors_are_stored_once() -> None:
    _, tensors = pack_groups(EXAMPLE)
    # 0..3 of the writer and of the extent; 0..5 of the other group; pairs of the reader
    assert sorted(tensor.numel() for tensor in tensors.values()) == [4, 6, 8]


def _change(*path: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        place: Any = header
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to

    return change


FIRST = ("groups", 0)


@pytest.mark.parametrize(
    "change",
    [
        _change("groups", to=None),
        _change("groups", to=[None]),
        _change("groups", 1, "name", to="conv"),
        _change("groups", 1, "name", to=[]),
        _change(*FIRST, "size", to=3),
        _change(*FIRST, "size", to=None),
        _change(*FIRST, "pattern", to=[3, 2]),
        _change(*FIRST, "pattern", to=[1, 3]),
        _change(*FIRST, "pattern", to=[0, 2]),
        _change(*FIRST, "pattern", to=[1]),
        _change(*FIRST, "members", 0, "name", to="other.weight"),
        _change(*FIRST, "members", 0, "dims", to=[4]),
        _change(*FIRST, "members", 0, "dims", to=[-4]),
        _change(*FIRST, "members", 0, "dims", to=[0, 0]),
        _change(*FIRST, "members", 0, "dims", to=[]),
        _change(*FIRST, "members", 0, "dims", to=[1]),
        _change(*FIRST, "members", 0, "unit_of", to="index.99"),
        _change(*FIRST, "members", 0, "role", to="eats"),
        _change("shapes", "conv.weight", to=[5, 3, 3, 3]),
        _change("shapes", to={}),
        _change("extents", 0, "size", to=10**15),
        _change("extents", 0, "size", to=-1),
        _change("extents", 0, "size", to=float("inf")),
        _change("extents", 0, "parts", 0, 0, to="nobody"),
        _change("extents", to=[]),
        _change("contractions", 0, "extents", to=[1]),
        _change("contractions", 0, "extents", to=[-1]),
        _change("contractions", 0, "fixed", to="many"),
        _change("contractions", 0, to={}),
        _change("equations", 0, "extent", to=2),
        _change("equations", 0, "is", to={"live": 5}),
        _change("equations", 0, "is", to={"operator": "**", "left": 1, "right": 1}),
        _change("fixed", to=[{"nonsense": 1}]),
        _change("parameters", to=None),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(
    change: Callable[[dict[str, Any]], None],
) -> None:
    header, tensors = pack_groups(EXAMPLE)
    header = copy.deepcopy(json.loads(json.dumps(header)))
    change(header)
    with pytest.raises((ArithmeticError, LookupError, TypeError, ValueError, AttributeError)):
        unpack_groups(header, tensors)


EXPERTS = Groups(
    (
        Group(
            "list",
            "expert",
            2,
            tuple(
                Member(f"list.{i}.weight", (3, 3), (), torch.tensor([i]), Role.WRITES)
                for i in range(2)
            ),
            least=Least(1, "one is chosen"),
            gate="router",
            modules=("list.0", "list.1"),
        ),
    ),
    shapes={"list.0.weight": (3, 3), "list.1.weight": (3, 3)},
)


def test_whole_modules_survive_packing() -> None:
    header, tensors = pack_groups(EXPERTS)
    assert same(unpack_groups(json.loads(json.dumps(header)), tensors), EXPERTS)


@pytest.mark.parametrize(
    "change",
    [
        _change(*FIRST, "modules", to=[]),
        _change(*FIRST, "modules", to=["list.0"]),
        _change(*FIRST, "modules", to=["list.1", "list.0"]),
        _change(*FIRST, "modules", to=["list.0", "other.1"]),
        _change(*FIRST, "modules", to=["other.0", "other.1"]),
        _change(*FIRST, "modules", to=[0, 1]),
        _change(*FIRST, "members", 0, "name", to="list.1.weight"),
        _change(*FIRST, "members", 0, "unit_of", to="index.1"),
        _change(*FIRST, "least", "units", to=3),
        _change(*FIRST, "least", "units", to=0),
        _change(*FIRST, "least", to=2),
    ],
)
def test_modules_that_cannot_be_are_refused(change: Callable[[dict[str, Any]], None]) -> None:
    header, tensors = pack_groups(EXPERTS)
    header = json.loads(json.dumps(header))
    change(header)
    with pytest.raises((LookupError, TypeError, ValueError, AttributeError)):
        unpack_groups(header, tensors)


def test_plans_that_say_nothing_of_it_mean_one_that_stays() -> None:
    header, tensors = pack_groups(EXAMPLE)
    for entry in header["groups"]:
        for key in ("least", "gate", "modules"):
            del entry[key]
        for member in entry["members"]:
            del member["closes"]
    assert same(unpack_groups(json.loads(json.dumps(header)), tensors), EXAMPLE)


@pytest.mark.parametrize(
    "index",
    [
        torch.tensor([0, 1, 2, -2]),
        torch.tensor([0, 1, 2, 4]),
        torch.tensor([0, 1, 2]),
        torch.tensor([[0, 1, 2, 3]]),
        torch.tensor([0.0, 1.0, 2.0, 3.0]),
        torch.tensor(0),
    ],
)
def test_an_index_that_points_nowhere_is_refused(index: torch.Tensor) -> None:
    header, tensors = pack_groups(EXAMPLE)
    key = header["groups"][0]["members"][0]["unit_of"]
    stored = index if index.is_floating_point() else index.to(torch.int32)
    with pytest.raises(ValueError, match=r"int32 index of shape|points outside"):
        unpack_groups(header, tensors | {key: stored})

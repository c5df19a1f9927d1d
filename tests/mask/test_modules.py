"""Modules that leave a list, and the names of those that stay."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from secateur.errors import PlanError
from secateur.mask.modules import name_before, name_left, names_left, take_out
from secateur.types import Group, Groups, Member, Role


def _groups(*lists: tuple[str, int]) -> Groups:
    names = [f"{path}.{i}.weight" for path, size in lists for i in range(size)]
    groups = [
        Group(
            path,
            "expert",
            size,
            tuple(
                Member(f"{path}.{i}.weight", (2, 2), (), torch.tensor([i]), Role.WRITES)
                for i in range(size)
            ),
            modules=tuple(f"{path}.{i}" for i in range(size)),
        )
        for path, size in lists
    ]
    return Groups(tuple(groups), shapes=dict.fromkeys([*names, "a.b.10.weight"], (2, 2)))


def test_those_behind_move_up() -> None:
    model = nn.ModuleDict({"a": nn.ModuleList(nn.Linear(2, 2) for _ in range(4))})
    weights = [module.weight for module in model["a"]]
    take_out(model, {"a": torch.tensor([False, True, False, True])})

    assert [name for name, _ in model.named_parameters() if "weight" in name] == [
        "a.0.weight",
        "a.1.weight",
    ]
    assert [module.weight is weights[i] for module, i in zip(model["a"], (1, 3), strict=True)]


def test_names() -> None:
    groups = _groups(("a", 3), ("a.b", 11))
    masks = {"a": torch.tensor([True, False, True]), "a.b": torch.arange(11) > 8}
    assert names_left(groups, masks) == {
        "a.0.weight": "a.0.weight",
        "a.2.weight": "a.1.weight",
        "a.b.9.weight": "a.b.0.weight",
        "a.b.10.weight": "a.b.1.weight",
    }
    for dense, left in names_left(groups, masks).items():
        assert (name_left(masks, dense), name_before(masks, left)) == (left, dense)
    assert names_left(groups, {}) == {name: name for name in groups.shapes}


@pytest.mark.parametrize(
    "held", [nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), nn.ModuleList([nn.Linear(2, 2)])]
)
def test_no_such_list(held: nn.Module) -> None:
    model = nn.ModuleDict({"a": held})
    with pytest.raises(PlanError, match="ModuleList of 2 modules") as caught:
        take_out(model, {"a": torch.tensor([False, True])})
    assert caught.value.where == "a"

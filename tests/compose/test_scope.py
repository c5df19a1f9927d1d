from __future__ import annotations

import pytest
import torch

from secateur.compose import MinMax, Scope
from secateur.compose.scope import over
from secateur.errors import OptionError

SCORES = {"g": torch.tensor([1.0, 2.0]), "h": torch.tensor([5.0])}


def test_a_group_at_a_time_or_all_units_as_one() -> None:
    apart = over(Scope.GROUP, lambda x: x - x.max(), SCORES)
    assert {group: values.tolist() for group, values in apart.items()} == {"g": [-1, 0], "h": [0]}
    together = over(Scope.NETWORK, lambda x: x - x.max(), SCORES)
    assert {group: values.tolist() for group, values in together.items()} == {
        "g": [-4, -3],
        "h": [0],
    }


@pytest.mark.parametrize("scope", Scope)
def test_two_rows_go_hand_in_hand_whatever_the_order_of_their_groups(scope: Scope) -> None:
    other = {"h": torch.tensor([3.0]), "g": torch.tensor([1.0, 2.0])}
    found = over(scope, lambda x, y: 10 * x + y, SCORES, other)
    assert {group: values.tolist() for group, values in found.items()} == {
        "g": [11, 22],
        "h": [53],
    }


@pytest.mark.parametrize("scope", Scope)
def test_no_groups_give_none(scope: Scope) -> None:
    assert over(scope, lambda x: x, {}) == {}


@pytest.mark.parametrize("wrong", ["group", None, 1])
def test_a_scope_is_one_of_two(wrong: object) -> None:
    with pytest.raises(OptionError, match="no scope") as caught:
        MinMax(wrong)  # type: ignore[arg-type]
    assert "Scope.NETWORK" in caught.value.hint

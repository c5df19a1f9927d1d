from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from secateur.errors import DataError, ModelError
from secateur.measure import accuracy
from secateur.measure.accuracy import wilson
from tests.handmade import data, net, same_state, state_of


class Says(nn.Module):
    """Its input is its output."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_the_share_of_right_answers() -> None:
    outputs = torch.eye(4)
    found = accuracy(
        Says(), [(outputs[:3], torch.tensor([0, 1, 1])), (outputs[3:], torch.tensor([3]))]
    )
    assert (found.value, found.n) == (0.75, 4)
    assert str(found) == "75.00% [30.06%, 95.44%] of 4"
    assert found.to_json() == {"value": 0.75, "low": found.low, "high": found.high, "n": 4}


def test_every_place_of_a_map_is_an_answer() -> None:
    labels = torch.randint(3, (2, 5, 5))
    outputs = nn.functional.one_hot(labels, 3).movedim(-1, 1).float()
    labels[0, 0, 0] = (labels[0, 0, 0] + 1) % 3
    found = accuracy(Says(), [(outputs, labels)])
    assert found.value == 49 / 50


def test_the_interval_is_wilsons() -> None:
    # Newcombe, Statistics in Medicine 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    for right, n, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        found = wilson(right, n)
        assert (round(found.low, 4), round(found.high, 4)) == (low, high)


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_solves_its_equation(pair: tuple[int, int]) -> None:
    """Its ends are the p that lie exactly 1.96 standard errors from what was seen."""
    right, n = pair
    found = wilson(right, n)
    assert 0.0 <= found.low <= found.value <= found.high <= 1.0
    for end in (found.low, found.high):
        if 0.0 < end < 1.0:
            errors = abs(found.value - end) / math.sqrt(end * (1 - end) / n)
            assert errors == pytest.approx(1.959964, rel=1e-3, abs=1e-4)


def test_the_network_is_untouched_and_in_eval_mode() -> None:
    model, batches = net().train(), data()
    before, random = state_of(model), torch.get_rng_state()
    told: list[int] = []
    first = accuracy(model, batches, progress=told.append)
    assert accuracy(model, batches) == first  # no dropout
    assert same_state(model, before)
    assert torch.equal(torch.get_rng_state(), random)
    assert told == [1, 2, 3]


Y = torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("batch", "error", "what"),
    [
        (torch.eye(2), DataError, "integer labels"),
        ((torch.eye(2), Y.float()), DataError, "integer labels"),
        ((torch.eye(2), [0, 1]), DataError, "integer labels"),
        ((torch.ones(2), Y), DataError, "does not give one tensor"),
        ((torch.eye(2), Y[:1]), DataError, "do not fit"),
        ((torch.ones(2, 3, 4), Y), DataError, "do not fit"),
    ],
)
def test_what_cannot_be_counted(batch: object, error: type[Exception], what: str) -> None:
    with pytest.raises(error, match=what) as caught:
        accuracy(Says(), [(torch.eye(2), Y), batch])
    assert caught.value.where == "batch 1"


def test_outputs_that_are_nan_are_not_counted_as_wrong() -> None:
    class Breaks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * float("nan")

    with pytest.raises(ModelError, match="gives NaN"):
        accuracy(Breaks(), [(torch.eye(2), Y)])


def test_no_data() -> None:
    with pytest.raises(DataError, match="no batch"):
        accuracy(Says(), [])

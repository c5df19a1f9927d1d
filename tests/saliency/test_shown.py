from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from secateur.saliency import shown
from secateur.saliency.shown import Shown
from secateur.types import Activation, Group, Place


def place(size: int, unit_of: Tensor | None = None) -> tuple[Group, Activation]:
    seen = Activation("act", Place.OUTPUT, 0, 1, torch.arange(size), "weight")
    if unit_of is not None:
        seen = Activation("act", Place.OUTPUT, 0, 1, unit_of, "weight")
    return Group("layer", "channel", size, (), (seen,)), seen


def signed(samples: int, below: Sequence[int]) -> Tensor:
    """Maps of many zeros, negative somewhere in some of the samples."""
    draw = torch.Generator().manual_seed(samples)
    values = torch.randn(samples, 3, 2, 2, generator=draw).relu()
    for sample in below:
        values[sample, sample % 3, 1, 0] = -0.5
    return values


@pytest.mark.parametrize("below", [[], [0], [5], [2, 3], list(range(6))], ids=str)
@pytest.mark.parametrize("piece", [1, 24, 2**18])
@pytest.mark.parametrize("order", ["absolute zeros", "zeros absolute", "zeros", "absolute"])
def test_sizes_and_zeros_whatever_is_asked_first_and_however_they_are_signed(
    monkeypatch: pytest.MonkeyPatch, below: list[int], piece: int, order: str
) -> None:
    monkeypatch.setattr(shown, "_PIECE", piece)
    values = signed(6, below)
    before = values.clone()
    expected = {
        "absolute": values.double().abs().sum((0, 2, 3)),
        "zeros": (values == 0).double().sum((0, 2, 3)),
    }
    group, activation = place(3)
    for _ in range(2):  # what was asked for before is made at once
        site = Shown(group, activation, 6, values)
        for what in order.split():
            torch.testing.assert_close(getattr(site, what), expected[what])
    assert torch.equal(values, before)


def test_minus_zero_is_zero_and_nan_stays() -> None:
    group, activation = place(2)
    site = Shown(group, activation, 2, torch.tensor([[-0.0, 1.0], [2.0, torch.nan]]))
    assert site.zeros[0] == 1
    assert site.absolute[0] == 2
    assert site.absolute[1].isnan()


def test_values_whose_signs_are_yet_to_be_turned() -> None:
    group, activation = place(2)
    values = torch.complex(torch.zeros(3, 2), torch.tensor([[1.0, 0.0]] * 3)).conj().imag
    assert values.is_neg()
    site = Shown(group, activation, 3, values, values)
    assert site.absolute.tolist() == [3.0, 0.0]
    assert site.zeros.tolist() == [0.0, 3.0]
    assert site.change.tolist() == [3.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("last", [False, True], ids=["as it is", "channels last"])
def test_products_are_those_of_the_formula(dtype: torch.dtype, last: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    a, g = (torch.randn(5, 4, 3, 2, generator=draw, dtype=torch.float64) for _ in range(2))
    a, g = a.to(dtype), g.to(dtype)
    if last:
        a, g = (t.to(memory_format=torch.channels_last) for t in (a, g))
    group, activation = place(2, torch.tensor([1, -1, 0, 1]))
    by_index = (a.double() * g.double()).sum((2, 3))
    expected = torch.stack([by_index[:, 2], by_index[:, 0] + by_index[:, 3]], 1)
    exact = 1e-12 if dtype is torch.float64 else 1e-5
    found = Shown(group, activation, 5, a, g).taylor
    torch.testing.assert_close(found, expected, rtol=exact, atol=exact)


def test_units_and_positions_that_are_seen() -> None:
    values = torch.zeros(5, 4, 3, 2)
    assert Shown(*place(4), 5, values).extent == (4, 6)
    assert Shown(*place(2, torch.tensor([1, -1, 0, 1])), 5, values).extent == (2, 12)

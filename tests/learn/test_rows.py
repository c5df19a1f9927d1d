"""Rows by kind of unit, against tensors laid out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import secateur as sec
from secateur.errors import OptionError
from secateur.learn import PerGroup, PerKernel, PerOutput, PerPosition, Rows, Tiled, Usual


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 2)
        self.fc = nn.Linear(4, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.conv(x).relu().mean((2, 3)))


X = torch.randn(2, 3, 5, 5)


def group(granularity: object, name: str) -> sec.Group:
    return sec.groups(Net(), X, granularity)[name]  # type: ignore[arg-type]


def test_weights_of_a_matrix() -> None:
    fc = group(sec.Weights(), "fc")
    assert torch.equal(PerOutput().of(fc), torch.arange(24).view(6, 4))
    assert torch.equal(Usual().of(fc), PerOutput().of(fc))


def test_weights_of_a_convolution_in_both_variants() -> None:
    conv = group(sec.Weights(), "conv")
    where = torch.arange(48).view(4, 3, 2, 2)
    position, kernel = PerPosition().of(conv), PerKernel().of(conv)
    assert position.shape == (3 * 4, 4)
    assert kernel.shape == (4 * 3, 4)
    assert torch.equal(
        position[1 * 4 + 2], where[:, 1, 1, 0]
    )  # input 1, position (1, 0): all filters
    assert torch.equal(kernel[2 * 3 + 1], where[2, 1].flatten())  # kernel of filter 2, input 1
    assert torch.equal(Usual().of(conv), position)


def test_kernels_are_k_of_the_inputs_of_a_map() -> None:
    conv = group(sec.Kernels(), "conv")
    assert torch.equal(Usual().of(conv), torch.arange(12).view(4, 3))


def test_channels_are_one_row() -> None:
    conv = group(sec.Channels(), "conv")
    assert torch.equal(Usual().of(conv), torch.arange(4).view(1, 4))
    assert torch.equal(PerGroup().of(conv), Usual().of(conv))


def test_blocks_are_rows_of_m_along_the_inputs() -> None:
    fc = group(sec.Block(2, 4), "fc")
    rows = Usual().of(fc)
    mask = torch.zeros(24, dtype=torch.bool)
    mask[rows[3]] = True  # the block of output 3
    assert rows.shape == (6, 4)
    weight = mask[fc.members[0].unit_of].view(6, 4)
    assert weight[3].all()
    assert int(weight.sum()) == 4


def test_tiles_cut_every_row() -> None:
    fc = group(sec.Weights(), "fc")
    tiled = Tiled(2).of(fc)
    assert torch.equal(tiled, torch.arange(24).view(12, 2))
    with pytest.raises(OptionError, match="3 tiles do not divide rows of 4"):
        Tiled(3).of(fc)
    with pytest.raises(OptionError, match="0 tiles"):
        Tiled(0)


@pytest.mark.parametrize("rows", [PerOutput(), PerPosition(), PerKernel()])
def test_channels_have_no_rows_inside_a_tensor(rows: Rows) -> None:
    with pytest.raises(OptionError, match="one row"):
        rows.of(group(sec.Channels(), "conv"))


def test_a_matrix_has_no_kernels_of_weights() -> None:
    with pytest.raises(OptionError, match="no kernels of weights"):
        PerKernel().of(group(sec.Weights(), "fc"))

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from secateur.recover.patches import columns, patches, places, unrolled

small = st.integers(1, 3)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Any, torch.Tensor]:
    dims = draw(st.integers(1, 3))
    kind: Any = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
    groups = draw(st.integers(1, 2))
    sizes = st.tuples(*[small] * dims)
    layer = kind(
        groups * draw(small),
        groups * draw(small),
        draw(sizes),
        stride=draw(sizes),
        padding=draw(sizes),
        dilation=draw(sizes),
        groups=groups,
        padding_mode=draw(st.sampled_from(["zeros", "circular", "replicate"])),
    ).double()
    shape = (draw(small), layer.in_channels, *(draw(st.integers(5, 7)) for _ in range(dims)))
    x = torch.randn(shape, dtype=torch.float64)
    return layer, x.mT if dims > 1 and draw(st.booleans()) else x  # contiguous or not


@given(convolutions(), st.integers(1, 40))
def test_rows_times_weight_is_the_convolution(case: Any, rows: int) -> None:
    layer, x = case
    out = layer(x)
    assert places(x, layer) == (len(out), *out.shape[2:])
    assert places(x[0], layer) == tuple(out.shape[2:])
    groups, inputs, outputs = columns(layer)
    weight = layer.weight.reshape(groups, outputs, inputs).mT
    count = 0
    for read, wanted in patches(x, out, layer, rows):
        assert 1 <= read.shape[1] <= rows
        torch.testing.assert_close(read @ weight + layer.bias.reshape(groups, 1, outputs), wanted)
        count += read.shape[1]
    assert count == out.numel() // out.shape[1]


@pytest.mark.parametrize("shape", [(4,), (7, 4), (2, 3, 4)])
def test_a_linear_layer(shape: tuple[int, ...]) -> None:
    layer, x = nn.Linear(4, 5), torch.randn(shape)
    pieces = list(patches(x, layer(x), layer, 3))
    assert places(x, layer) == shape[:-1]
    assert all(read.dtype == wanted.dtype == torch.float64 for read, wanted in pieces)
    assert sum(read.shape[1] for read, _ in pieces) == x.numel() // 4
    for read, wanted in pieces:
        torch.testing.assert_close(layer(read.float()), wanted.float())


def test_a_convolution_without_a_batch_dim() -> None:
    layer, x = nn.Conv1d(2, 3, 3, padding=1).double(), torch.randn(2, 5, dtype=torch.float64)
    ((read, wanted),) = patches(x, layer(x), layer, 100)
    ((same, too),) = patches(x[None], layer(x[None]), layer, 100)
    assert torch.equal(read, same)
    assert torch.equal(wanted, too)


@given(convolutions(), st.integers(1, 40))
def test_what_is_read_alone_is_what_is_read_beside_outputs(case: Any, rows: int) -> None:
    layer, x = case
    beside = torch.cat([read for read, _ in patches(x, layer(x), layer, rows)], dim=1)
    pieces = list(unrolled(x, layer, rows))
    assert all(piece.shape[1] <= rows for piece in pieces)
    assert torch.equal(torch.cat(pieces, dim=1), beside)

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.trace.alone import alone, labels
from tests.trace.law import assert_exact, between, example, free

SPATIAL: dict[str, tuple[Callable[[Tensor], Any], int]] = {
    # name: (on a tensor with k spatial dims of size 4; k)
    "max_pool1d": (lambda x: F.max_pool1d(x, 2), 1),
    "max_pool2d": (lambda x: F.max_pool2d(x, 2, stride=1, padding=1), 2),
    "max_pool3d": (lambda x: F.max_pool3d(x, 2), 3),
    "with indices": (lambda x: F.max_pool2d(x, 2, return_indices=True)[0], 2),
    "adaptive_max_pool2d": (lambda x: F.adaptive_max_pool2d(x, 3), 2),
    "adaptive_max_pool1d": (lambda x: F.adaptive_max_pool1d(x, 3), 1),
    "avg_pool1d": (lambda x: F.avg_pool1d(x, 3, padding=1), 1),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, 2, ceil_mode=True), 2),
    "avg_pool3d": (lambda x: F.avg_pool3d(x, 2), 3),
    "adaptive_avg_pool1d": (lambda x: F.adaptive_avg_pool1d(x, 3), 1),
    "adaptive_avg_pool2d": (lambda x: F.adaptive_avg_pool2d(x, (2, 3)), 2),
    "adaptive_avg_pool2d to one": (lambda x: F.adaptive_avg_pool2d(x, 1), 2),
    "adaptive_avg_pool3d": (lambda x: F.adaptive_avg_pool3d(x, 2), 3),
    "lp_pool2d": (lambda x: F.lp_pool2d(x.abs() + 0.1, 2.0, 2), 2),
    "nearest": (lambda x: F.interpolate(x, scale_factor=2), 2),
    "nearest to a size": (lambda x: F.interpolate(x, size=(3, 5)), 2),
    "nearest 1d": (lambda x: F.interpolate(x, scale_factor=2), 1),
    "nearest 3d": (lambda x: F.interpolate(x, scale_factor=2), 3),
    "nearest-exact": (lambda x: F.interpolate(x, scale_factor=2, mode="nearest-exact"), 2),
    "linear": (lambda x: F.interpolate(x, scale_factor=2, mode="linear"), 1),
    "bilinear": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), 2),
    "antialias": (lambda x: F.interpolate(x, size=3, mode="bilinear", antialias=True), 2),
    "bicubic": (lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"), 2),
    "trilinear": (lambda x: F.interpolate(x, scale_factor=2, mode="trilinear"), 3),
    "reflection_pad1d": (lambda x: F.pad(x, (1, 2), mode="reflect"), 1),
    "reflection_pad2d": (lambda x: F.pad(x, (1, 2, 0, 1), mode="reflect"), 2),
    "replication_pad2d": (lambda x: F.pad(x, (1, 2, 0, 1), mode="replicate"), 2),
    "replication_pad3d": (lambda x: F.pad(x, (1, 0, 0, 1, 1, 1), mode="replicate"), 3),
}


@pytest.mark.parametrize("name", SPATIAL)
@settings(max_examples=3)
@given(st.integers(2, 5))
def test_labels_of_the_leading_dims_stay(name: str, channels: int) -> None:
    function, rank = SPATIAL[name]
    ran = alone(function, (3, channels, *[4] * rank))
    space = int(np.prod(ran.out.shape[2:]))

    if name != "adaptive_avg_pool2d to one":  # that is a mean
        assert all(all(ran.pinned(0, 2 + d)) for d in range(rank))
    assert len(set(ran.classes(0, 1))) == channels
    assert not any(ran.pinned(0, 0) + ran.pinned(0, 1))
    assert labels(ran, ran.out) == [
        frozenset([b, c])
        for b in ran.classes(0, 0)
        for c in ran.classes(0, 1)
        for _ in range(space)
    ]


@pytest.mark.parametrize("name", SPATIAL)
@pytest.mark.parametrize("shifted", [False, True])
def test_channels_leave_exactly(name: str, shifted: bool) -> None:
    function, rank = SPATIAL[name]
    model = between(lambda n, x: function(x), 5, (4,) * rank, shifted=shifted)

    assert free(assert_exact(model, example(model, *[4] * rank)), "writer.weight:0") == 5

    plain = between(lambda n, x: function(x), 5, (4,) * rank, shifted=shifted, gain=False)
    assert_exact(plain, example(plain, *[4] * rank), declared=True)


def test_circular_padding_is_refused() -> None:
    """It is written piece by piece into a new tensor."""
    model = between(lambda n, x: F.pad(x, (1, 1, 1, 1), mode="circular"), 5, (4, 4))
    groups = assert_exact(model, example(model, 4, 4))
    held = {fixed.operator for fixed in groups.fixed if fixed.name == "writer.weight"}

    assert held <= {"copy_", "empty"}
    assert groups.groups or held


def test_positions_of_extremes_are_not_zero() -> None:
    def function(n: Any, x: Tensor) -> Tensor:
        return F.max_pool2d(x, 2, return_indices=True)[1].double()

    model = between(function, 5, (4, 4), gain=False)
    groups = assert_exact(model, example(model, 4, 4), declared=True)

    assert [place.operator for place in groups.groups[0].declared] == ["sum"]


def test_unpooling() -> None:
    def function(n: Any, x: Tensor) -> Tensor:
        return F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2)

    model = between(function, 5, (4, 4))
    assert_exact(model, example(model, 4, 4))


@settings(max_examples=15)
@given(st.integers(2, 4), st.integers(1, 3), st.integers(1, 2))
def test_a_channel_becomes_a_block_of_its_window(channels: int, kernel: int, stride: int) -> None:
    ran = alone(lambda x: F.unfold(x, kernel, stride=stride), (2, channels, 4, 4))
    count = ran.out.shape[2]

    assert labels(ran, ran.out) == [
        frozenset([b, c])
        for b in ran.classes(0, 0)
        for c in ran.classes(0, 1)
        for _ in range(kernel**2 * count)
    ]
    assert all(ran.pinned(0, 2) + ran.pinned(0, 3))

    back = alone(lambda x: F.fold(x, 4, kernel, stride=stride), tuple(ran.out.shape))
    if kernel > 1:  # each channel is "all of my block"
        blocks = [
            back.classes(0, 1)[i : i + kernel**2] for i in range(0, channels * kernel**2, kernel**2)
        ]
        nodes = back.tape.classes.all_of(np.array(blocks)).tolist()

        assert labels(back, back.out) == [
            frozenset([b, c]) for b in back.classes(0, 0) for c in nodes for _ in range(16)
        ]


def test_windows_of_one_image() -> None:
    """Without a batch the channels come first."""
    ran = alone(lambda x: F.unfold(x, 2), (3, 4, 4))

    assert labels(ran, ran.out)[:: ran.out.shape[1]] == [
        frozenset([c]) for c in ran.classes(0, 0) for _ in range(4)
    ]

    back = alone(lambda x: F.fold(x, 2, 2), (12, 1))
    blocks = [back.classes(0, 0)[i : i + 4] for i in (0, 4, 8)]
    nodes = back.tape.classes.all_of(np.array(blocks)).tolist()

    assert labels(back, back.out) == [frozenset([node]) for node in nodes for _ in range(4)]


@pytest.mark.parametrize("shifted", [False, True])
def test_windows_there_and_back(shifted: bool) -> None:
    def function(n: Any, x: Tensor) -> Tensor:
        return F.fold(F.unfold(x, 2).relu(), 4, 2)

    model = between(function, 5, (4, 4), shifted=shifted)

    assert free(assert_exact(model, example(model, 4, 4)), "writer.weight:0") == 5


def test_a_fold_of_channels_from_elsewhere_loses_whole_blocks() -> None:
    model = between(lambda n, x: F.fold(x, 4, 2, stride=2), 12, (4,))
    groups = assert_exact(model, example(model, 4))

    assert free(groups, "writer.weight:0") == 3


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_a_grid_is_data(mode: str) -> None:
    grid = torch.rand(2, 3, 3, 2, dtype=torch.float64) * 2 - 1
    model = between(lambda n, x: F.grid_sample(x, grid, mode, align_corners=False), 5, (4, 4))

    assert free(assert_exact(model, example(model, 4, 4)), "writer.weight:0") == 5


def test_a_grid_made_of_channels_holds_them() -> None:
    def function(n: Any, x: Tensor) -> Tensor:
        return F.grid_sample(x, x[:, :2].permute(0, 2, 3, 1).tanh(), align_corners=False)

    model = between(function, 5, (4, 4))
    groups = assert_exact(model, example(model, 4, 4))
    held = {fixed.operator for fixed in groups.fixed if fixed.name == "writer.weight"}

    assert held <= {"grid_sampler_2d", "__getitem__", "slice"}
    assert free(groups, "writer.weight:0") <= 3

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from secateur.types import Groups
from tests.trace.alone import alone, labels
from tests.trace.law import assert_exact, between, example, free, randomised

FEW = settings(max_examples=20)
SPACES = st.sampled_from([(), (3,), (2, 2), (2, 1, 2)])


def operators(groups: Groups) -> set[str]:
    return {place.operator for group in groups for place in group.declared}


class Through(nn.Module):
    """A writer, a layer, and a linear reader of everything."""

    def __init__(self, layer: nn.Module, channels: int, space: tuple[int, ...], curve: Any) -> None:
        super().__init__()
        kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
        self.writer = kinds[len(space)](3, channels, *((1,) if space else ()))
        self.layer, self.curve = layer, curve
        self.reader = nn.Linear(channels * int(torch.Size(space).numel()), 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.reader(self.layer(self.curve(self.writer(x))).flatten(1))


def through(layer: nn.Module, channels: int, space: tuple[int, ...], curve: Any = torch.sin) -> Any:
    return randomised(Through(layer, channels, space, curve)), torch.randn(
        2, 3, *space, dtype=torch.float64
    )


@FEW
@given(SPACES, st.integers(2, 6), st.booleans(), st.sampled_from([torch.sin, torch.cos]))
def test_running_statistics_are_exact(
    space: tuple[int, ...], channels: int, affine: bool, curve: Any
) -> None:
    kinds = (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    model, x = through(kinds[len(space)](channels, affine=affine), channels, space, curve)
    groups = assert_exact(model, x)

    assert free(groups, "writer.weight:0") == channels
    assert free(groups, "layer.running_mean:0") == channels
    assert free(groups, "layer.weight:0") == channels * affine


@FEW
@given(SPACES.filter(bool), st.integers(2, 6), st.booleans())
def test_statistics_of_the_sample_belong_to_each_channel(
    space: tuple[int, ...], channels: int, affine: bool
) -> None:
    """Instance norm, and batch norm without running statistics: other channels do not matter."""
    rank = len(space) - 1
    instance = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)[rank]
    batch = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[rank]
    for layer in (
        instance(channels, affine=affine),
        batch(channels, affine=affine, track_running_stats=False),
    ):
        model, x = through(layer, channels, (*space[:-1], 4))

        assert free(assert_exact(model, x), "writer.weight:0") == channels


@FEW
@given(st.integers(2, 6), st.booleans(), st.sampled_from(["layer", "rms"]))
def test_statistics_over_channels_are_declared(channels: int, affine: bool, kind: str) -> None:
    made = nn.LayerNorm if kind == "layer" else nn.RMSNorm
    model, x = through(made(channels, elementwise_affine=affine), channels, ())
    groups = assert_exact(model, x, declared=True)

    assert free(groups, "writer.weight:0") == channels
    assert operators(groups) <= {"native_layer_norm", "_fused_rms_norm", "rms_norm", "mean", "div"}
    assert operators(groups)


def test_a_norm_over_other_dims_is_exact() -> None:
    """Layer norm over space, with the channels in front of it."""
    model, x = through(nn.LayerNorm((2, 3)), 5, (2, 3))

    assert free(assert_exact(model, x), "writer.weight:0") == 5
    assert not operators(assert_exact(model, x))


@FEW
@given(st.integers(1, 4), st.integers(1, 4), st.booleans(), st.sampled_from([(3,), (2, 2)]))
def test_group_norm_loses_whole_groups_exactly(
    groups: int, width: int, affine: bool, space: tuple[int, ...]
) -> None:
    channels = groups * width
    if channels < 2:
        return
    model, x = through(nn.GroupNorm(groups, channels, affine=affine), channels, (*space, 2))
    found = assert_exact(model, x, declared=True)

    if groups > 1:
        assert free(found, "writer.weight:0") == groups
        assert not operators(found)
    else:
        assert free(found, "writer.weight:0") == channels
        assert operators(found) == {"native_group_norm"}


def test_a_gain_alone() -> None:
    """Labels of the input, the gain and the shift are one; nothing is lost."""
    shape = (2, 4, 3)
    ran = alone(
        lambda x, w, b, m, v: F.batch_norm(x, m, v.abs(), w, b), shape, (4,), (4,), (4,), (4,)
    )

    assert len({tuple(ran.classes(i, d)) for i, d in ((0, 1), (1, 0), (2, 0), (3, 0), (4, 0))}) == 1
    assert labels(ran, ran.out) == labels(ran, ran.inputs[0])

    ran = alone(lambda x, w, b: F.layer_norm(x, (4, 3), w, b), shape, (4, 3), (4, 3))

    assert [ran.classes(0, d) for d in (1, 2)] == [ran.classes(1, d) for d in (0, 1)]
    assert [ran.classes(0, d) for d in (1, 2)] == [ran.classes(2, d) for d in (0, 1)]
    assert labels(ran, ran.out) == labels(ran, ran.inputs[0])


@pytest.mark.parametrize("dim", [0, 1, None])
def test_weight_norm(dim: int | None) -> None:
    """The direction is cut but not masked; with norms over the input, that input is declared."""
    layer = nn.Linear(4, 5, dtype=torch.float64)
    parametrizations.weight_norm(layer, dim=dim)
    model = randomised(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), layer, nn.Tanh(), nn.Linear(5, 2)))
    groups = assert_exact(model, torch.randn(2, 3, dtype=torch.float64), declared=True)
    direction = "2.parametrizations.weight.original1"
    declared = {group.name for group in groups if group.declared}
    masked = {m.masked for group in groups for m in group.members if m.name == direction}

    if dim is None:  # one norm of all, to which what is masked adds nothing
        assert (declared, masked) == (set(), {True})
        return
    assert masked == {False}
    assert free(groups, f"{direction}:{dim}") == (5, 4)[dim]
    for group in groups:
        over = [m.dims for m in group.members if m.name == direction]
        assert bool(group.declared) == (over == [(1 - dim,)])


def test_spectral_norm_is_exact() -> None:
    """Its vectors are buffers that are cut, and masked, with the weight."""
    layer = nn.Linear(4, 5, dtype=torch.float64)
    parametrizations.spectral_norm(layer)
    model = randomised(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), layer, nn.Tanh(), nn.Linear(5, 2)))
    groups = assert_exact(model, torch.randn(2, 3, dtype=torch.float64))

    assert free(groups, "2.parametrizations.weight.original:0") == 5
    assert free(groups, "2.parametrizations.weight.0._u:0") == 5
    assert free(groups, "2.parametrizations.weight.0._v:0") == 4


def unit(n: Any, x: Tensor) -> Tensor:
    return x / x.norm(dim=1, keepdim=True).clamp_min(1e-9)


def test_division_by_a_norm_is_exact_where_zeros_add_nothing() -> None:
    model = between(unit, 5, (3,))

    assert free(assert_exact(model, example(model, 3)), "writer.weight:0") == 5

    shifted = between(unit, 5, (3,), shifted=True)
    groups = assert_exact(shifted, example(shifted, 3), declared=True)

    assert free(groups, "writer.weight:0") == 5
    assert operators(groups) == {"linalg_vector_norm"}


def test_what_torch_expands_by_itself_is_refused_by_name() -> None:
    model = between(lambda n, x: F.normalize(x, dim=1), 5, (3,))
    groups = assert_exact(model, example(model, 3))
    held = {fixed.operator for fixed in groups.fixed if fixed.name == "writer.weight"}

    assert groups.groups or held == {"div"}

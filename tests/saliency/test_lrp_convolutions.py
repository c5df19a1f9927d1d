from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from secateur.saliency.lrp import LRP, EpsilonPlus, Rule, ZPlus
from secateur.saliency.lrp.patches import Axis, patch_sums
from tests.saliency import unrolled
from tests.saliency.explain import effects, of_weights, only


class Read(nn.Module):
    """One convolution of signed inputs, whose outputs are logits."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x).flatten(1).cumsum(1)  # so that every output has relevance
        return out


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Module, Tensor]:
    """A convolution of any kind, and images that it can read."""
    dims, groups = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    transposed = draw(st.booleans())
    most = 2 if dims == 3 else 3  # the twin goes through every connection
    per_dim = st.lists(st.integers(1, most), min_size=dims, max_size=dims).map(tuple)
    kernel, stride, dilation = draw(per_dim), draw(per_dim), draw(per_dim)
    padding = tuple(draw(st.integers(0, size - 1)) for size in kernel)
    inputs, outputs = (groups * draw(st.integers(1, 2)) for _ in range(2))
    kinds = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    if not transposed:
        kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    layer = kinds[dims - 1](
        inputs, outputs, kernel, stride, padding, dilation=dilation, groups=groups
    )
    sides = [
        gap * (k - 1) + draw(st.integers(1, 2)) for gap, k in zip(dilation, kernel, strict=False)
    ]
    if transposed and draw(st.booleans()):
        sizes = zip(stride, dilation, strict=True)
        layer.output_padding = tuple(int(max(s, d) > 1) for s, d in sizes)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    layer = layer.double()
    for tensor in layer.parameters():
        tensor.data.normal_(generator=generator)
    x = torch.randn(2, inputs, *sides, dtype=torch.float64, generator=generator)
    return layer, x


@given(case=convolutions())
@settings(max_examples=60)
def test_any_convolution_is_the_unrolled_layer_with_tied_weights(
    case: tuple[nn.Module, Tensor],
) -> None:
    layer, x = case
    model, rule = Read(layer), ZPlus(1e-12)
    found = only(LRP(rule), model, x)["layer.weight"]
    y = layer(x)
    of_x = unrolled.back(layer, x, y, found[1], unrolled.z_plus(0.0))
    torch.testing.assert_close(found[0], of_x.detach(), rtol=1e-6, atol=1e-9)
    twin = unrolled.of_weights(layer, x, y, of_x, found[1])
    summed = effects(LRP(rule), model, x)["layer.weight"]
    ours = of_weights(summed, tuple(layer.weight.shape))
    torch.testing.assert_close(ours, twin, rtol=1e-6, atol=1e-9)
    assert summed.positions == y[0, 0].numel()


def test_two_vectors_unless_there_are_groups() -> None:
    x = torch.randn(2, 4, 6, 6)
    cases: list[tuple[nn.Module, tuple[int, ...], tuple[int, ...]]] = [
        (nn.Conv2d(4, 6, 3), (6, 1, 1, 1), (1, 4, 3, 3)),
        (nn.ConvTranspose2d(4, 6, 3), (1, 6, 1, 1), (4, 1, 3, 3)),
        (nn.Conv2d(4, 8, 3, groups=4), (8, 1, 1, 1), (8, 1, 3, 3)),
        (nn.Conv2d(4, 6, 3, groups=2), (6, 1, 1, 1), (6, 2, 3, 3)),
        (nn.ConvTranspose2d(4, 6, 3, groups=2), (4, 3, 1, 1), (4, 1, 3, 3)),
    ]
    for layer, rows, columns in cases:
        found = effects(LRP(), Read(layer), x)["layer.weight"]
        assert (found.rows.shape, found.columns.shape) == (rows, columns)
        assert torch.broadcast_shapes(rows, columns, layer.weight.shape) == layer.weight.shape


@pytest.mark.parametrize("kernel", [2, 3, (3, 2)])
@pytest.mark.parametrize("dilation", [1, 2])
def test_same_padding_pads_as_torch_does(kernel: int | tuple[int, int], dilation: int) -> None:
    layer = nn.Conv2d(2, 3, kernel, padding="same", dilation=dilation).double()
    x = torch.randn(2, 2, 5, 4, dtype=torch.float64)
    found = effects(LRP(), Read(layer), x)["layer.weight"]
    sides = [layer._reversed_padding_repeated_twice[i] for i in range(4)]
    padded = nn.Sequential(nn.ZeroPad2d(tuple(sides)), nn.Conv2d(2, 3, kernel, dilation=dilation))
    padded[1].load_state_dict(layer.state_dict())
    expected = effects(LRP(), Read(padded.double()), x)["layer.1.weight"]
    torch.testing.assert_close(found.rows, expected.rows)
    torch.testing.assert_close(found.columns, expected.columns)


def test_padding_that_is_no_zero_is_read_like_pixels() -> None:
    layer = nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular", bias=False).double()
    layer.weight.data.abs_()
    found = effects(LRP(), Read(layer), torch.rand(1, 1, 4, dtype=torch.float64))["layer.weight"]
    assert bool((found.columns > 0).all())
    assert found.positions == 4


def test_one_sample_without_a_batch_dim() -> None:
    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.conv(each).flatten().cumsum(0) for each in x])

    model, x = Single().double(), torch.randn(2, 2, 4, 4, dtype=torch.float64)
    found = effects(LRP(), model, x)["conv.weight"]
    expected = effects(LRP(), Read(model.conv), x)["layer.weight"]
    torch.testing.assert_close(found.rows, expected.rows)
    torch.testing.assert_close(found.columns, expected.columns)
    assert found.positions == expected.positions == 4


@pytest.mark.parametrize("rule", [EpsilonPlus(), ZPlus()], ids=str)
def test_a_linear_layer_on_maps_is_a_1x1_convolution(rule: Rule) -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.fc(x.movedim(1, -1)).movedim(-1, 1).flatten(1).cumsum(1)
            return out

    model, x = Last().double(), torch.rand(2, 3, 2, 2, dtype=torch.float64)
    conv = nn.Conv2d(3, 4, 1).double()
    conv.weight.data = model.fc.weight.data[..., None, None]
    conv.bias.data = model.fc.bias.data
    found = effects(LRP(ZPlus(1e-12)), model, x)["fc.weight"]
    expected = effects(LRP(ZPlus(1e-12)), Read(conv), x)["layer.weight"]
    torch.testing.assert_close(found.rows, expected.rows[..., 0, 0])
    torch.testing.assert_close(found.columns, expected.columns[..., 0, 0])
    assert found.positions == 4


@given(
    pixels=st.integers(1, 9),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 4),
    dilation=st.integers(1, 3),
    outputs=st.integers(1, 9),
    transposed=st.booleans(),
)
def test_patch_sums_take_each_meeting_once(
    pixels: int,
    kernel: int,
    stride: int,
    padding: int,
    dilation: int,
    outputs: int,
    transposed: bool,
) -> None:
    """Whatever the numbers are, also those that no convolution has."""
    values = torch.arange(1.0, pixels + 1)
    expected = []
    for k in range(kernel):
        total = 0.0
        for o in range(outputs):
            for p in range(pixels):
                here, there = (o, p * stride) if transposed else (p, o * stride)
                total += float(values[p]) if here == there + k * dilation - padding else 0.0
        expected.append(total)
    axis = Axis(kernel, outputs, stride, padding, dilation, transposed)
    assert patch_sums(values[None], [axis])[0].tolist() == expected

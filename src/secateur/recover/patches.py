"""A layer as a product of matrices: what it reads, unrolled, piece by piece."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.types.layers import Layer


def padded(x: Tensor, layer: Layer) -> Tensor:
    """The input of a convolution with its padding, as (N, C, ...); a Linear's input as it is."""
    if isinstance(layer, nn.Linear):
        return x
    x = x.unsqueeze(0) if x.dim() == len(layer.kernel_size) + 1 else x  # it had no batch dim
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    around = layer._reversed_padding_repeated_twice  # noqa: SLF001
    return F.pad(x, around, mode=mode) if any(around) else x


def places(x: Tensor, layer: Layer) -> tuple[int, ...]:
    """The samples and positions for which a layer that is given `x` returns something."""
    if isinstance(layer, nn.Linear):
        return tuple(x.shape[:-1])
    dims = len(layer.kernel_size)
    around = layer._reversed_padding_repeated_twice[::-1]  # noqa: SLF001
    sizes = [
        (x.shape[i - dims] + sum(around[2 * i : 2 * i + 2]) - dilation * (width - 1) - 1) // step
        + 1
        for i, (width, step, dilation) in enumerate(
            zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)
        )
    ]
    return tuple(x.shape[: x.dim() - dims - 1]) + tuple(sizes)


def columns(layer: Layer) -> tuple[int, int, int]:
    """Groups, inputs of a group (channels x kernel places), outputs of a group."""
    outputs = layer.weight.shape[0]
    groups = 1 if isinstance(layer, nn.Linear) else layer.groups
    return groups, layer.weight[0].numel(), outputs // groups


def patches(x: Tensor, out: Tensor, layer: Layer, rows: int) -> Iterator[tuple[Tensor, Tensor]]:
    """What a layer reads beside what goes out, as float64 (groups, n, inputs) and (groups, n, outputs).

    One row for each sample and position; n is at most `rows` at a time.

    Args:
        x: what the layer was given.
        out: something of the shape of what it returns, so that its places are `places(x, layer)`.
    """
    groups, inputs, outputs = columns(layer)
    if isinstance(layer, nn.Linear):
        flat, target = x.reshape(-1, inputs), out.reshape(-1, outputs)
        for start in range(0, len(flat), rows):
            piece = slice(start, start + rows)
            yield flat[piece].double().unsqueeze(0), target[piece].double().unsqueeze(0)
        return
    out = out.unsqueeze(0) if out.dim() == len(layer.kernel_size) + 1 else out
    target = out.unflatten(1, (groups, outputs)).movedim(1, 0).movedim(2, -1)  # (g, N, *out, O)
    windows = _windows(padded(x, layer), layer, out.shape[2:])  # (g, N, *out, C, *kernel)
    for block in _pieces(target.shape[1:-1], rows):
        yield (
            _double(windows[:, *block]).reshape(groups, -1, inputs),
            _double(target[:, *block]).reshape(groups, -1, outputs),
        )


def unrolled(x: Tensor, layer: Layer, rows: int) -> Iterator[Tensor]:
    """What a layer reads alone, as float64 (groups, n, inputs), with n at most `rows` at a time."""
    groups, inputs, _ = columns(layer)
    if isinstance(layer, nn.Linear):
        for piece in x.reshape(-1, inputs).split(rows):
            yield piece.double().unsqueeze(0)
        return
    sizes = torch.Size(places(x, layer)[-len(layer.kernel_size) :])
    windows = _windows(padded(x, layer), layer, sizes)  # (g, N, *out, C, *kernel)
    for block in _pieces(windows.shape[1 : 2 + len(sizes)], rows):
        yield _double(windows[:, *block]).reshape(groups, -1, inputs)


def _double(x: Tensor) -> Tensor:
    """In row-major order, so that it need not be copied again."""
    return x.to(torch.float64, memory_format=torch.contiguous_format)


def _windows(x: Tensor, layer: Layer, places: torch.Size) -> Tensor:
    """(groups, N, *places, C / groups, *kernel), a view: nothing is copied."""
    if isinstance(layer, nn.Linear):
        return x
    samples, channels = x.shape[:2]
    groups = layer.groups
    along = x.stride()
    sizes = (groups, samples, *places, channels // groups, *layer.kernel_size)
    steps = (
        along[1] * (channels // groups),
        along[0],
        *(a * s for a, s in zip(along[2:], layer.stride, strict=True)),
        along[1],
        *(a * d for a, d in zip(along[2:], layer.dilation, strict=True)),
    )
    return x.as_strided(sizes, steps, x.storage_offset())


def _pieces(shape: torch.Size, rows: int) -> Iterator[tuple[slice, ...]]:
    """Blocks of at most `rows` elements that tile a shape, the last dims whole where they can be."""
    widths: list[int] = []
    for size in reversed(shape):
        widths.insert(0, max(1, min(size, rows // max(math.prod(widths), 1))))
    starts = (range(0, size, width) for size, width in zip(shape, widths, strict=True))
    for corner in product(*starts):
        yield tuple(slice(c, c + w) for c, w in zip(corner, widths, strict=True))

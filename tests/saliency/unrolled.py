"""Relevance from its definition, one connection at a time: the slow twin of `saliency/lrp`.

A layer is a list of connections (output, input, weight); a convolution is written out as the fully
connected layer that it is, over an image with its padding around it, with one tied copy of every
weight for each output position.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Index = tuple[int, ...]
Shares = Callable[[list[float], float, float], list[float]]
"""(what each connection adds to an output, its bias, its relevance) to the relevance of each."""


@dataclass(frozen=True, slots=True)
class Connection:
    output: Index  # of one sample's output
    input: Index | None  # of one sample's input; None in the padding
    weight: Index


def epsilon(eps: float) -> Shares:
    """Without a part for eps where it is 0."""

    def shares(terms: list[float], bias: float, relevance: float) -> list[float]:
        y = sum(terms) + bias
        denominator = y + (eps if y >= 0 else -eps)
        return [term * relevance / denominator for term in terms]

    return shares


def z_plus(eps: float) -> Shares:
    def shares(terms: list[float], bias: float, relevance: float) -> list[float]:
        z = sum(max(term, 0.0) for term in terms) + max(bias, 0.0) + eps
        return [max(term, 0.0) * relevance / z if z else 0.0 for term in terms]

    return shares


def connections(layer: nn.Module, x: Tensor, y: Tensor) -> list[Connection]:
    """Of one sample, x and y with a batch dim in front."""
    if isinstance(layer, nn.Linear):
        weights = itertools.product(range(layer.out_features), range(layer.in_features))
        places = list(itertools.product(*(range(size) for size in x.shape[1:-1])))
        return [Connection((*at, o), (*at, i), (o, i)) for o, i in weights for at in places]
    assert isinstance(layer, nn.modules.conv._ConvNd)
    found = []
    positions = list(itertools.product(*(range(size) for size in y.shape[2:])))
    per_input = layer.in_channels // layer.groups
    per_output = layer.out_channels // layer.groups
    for o, i in itertools.product(range(layer.out_channels), range(per_input)):
        channel = o // per_output * per_input + i
        first = (channel, o % per_output) if layer.transposed else (o, i)
        for k in itertools.product(*(range(size) for size in layer.kernel_size)):
            for at in positions:
                pixel = _pixel(layer, at, k, x.shape[2:])
                found.append(
                    Connection((o, *at), None if pixel is None else (channel, *pixel), (*first, *k))
                )
    return found


def _pixel(
    layer: nn.modules.conv._ConvNd, at: Index, k: Index, sizes: Sequence[int]
) -> Index | None:
    pixel = []
    for d, size in enumerate(sizes):
        stride, gap = layer.stride[d], layer.dilation[d]
        if layer.padding == "same":
            before = gap * (layer.kernel_size[d] - 1) // 2
        else:
            before = 0 if layer.padding == "valid" else int(layer.padding[d])
        if layer.transposed:
            place, off = divmod(at[d] + before - k[d] * gap, stride)
            if off:
                return None
        else:
            place = at[d] * stride + k[d] * gap - before
        if not 0 <= place < size:
            return None
        pixel.append(place)
    return tuple(pixel)


def back(layer: nn.Module, x: Tensor, y: Tensor, of_y: Tensor, shares: Shares) -> Tensor:
    """The relevance of a layer's input, given that of its output; both for a batch."""
    of_x = torch.zeros_like(x)
    wired: dict[Index, list[Connection]] = {}
    for c in connections(layer, x, y):
        wired.setdefault(c.output, []).append(c)
    weight, bias = layer.weight, layer.bias
    for n in range(len(x)):
        for output, all_of_it in wired.items():
            mine = [c for c in all_of_it if c.input is not None]
            terms = [float(x[(n, *c.input)] * weight[c.weight]) for c in mine]
            channel = output[-1] if isinstance(layer, nn.Linear) else output[0]
            given = shares(
                terms, 0.0 if bias is None else float(bias[channel]), float(of_y[(n, *output)])
            )
            for c, share in zip(mine, given, strict=True):
                of_x[(n, *c.input)] += share
    return of_x


def of_weights(layer: nn.Module, x: Tensor, y: Tensor, of_x: Tensor, of_y: Tensor) -> Tensor:
    """Relevance of every weight: summed over samples and tied copies, |R(input)| + |R(output)|."""
    found = torch.zeros_like(layer.weight)
    for c in connections(layer, x, y):
        for n in range(len(x)):
            found[c.weight] += of_y[(n, *c.output)].abs()
            if c.input is not None:
                found[c.weight] += of_x[(n, *c.input)].abs()
    return found.detach()

"""The layers of a network whose time is worth a table: convolutions and linear layers, by shape."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from secateur.types.call import run
from secateur.types.untouched import untouched

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True, slots=True)
class Layer:
    """What one call of a layer does, but for how many channels it reads and writes.

    Attributes:
        kernel: (k, ...) of a convolution; () of a linear layer, which has no stride, padding or
            dilation either.
        padding: on both sides of each spatial dim.
        groups: of a convolution; 0: depthwise, as many as there are channels.
        size: of the input but for its channels: (batch, height, width); (batch, tokens) or (batch,)
            of a linear layer.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    size: tuple[int, ...]

    def __str__(self) -> str:
        """All of it in one line, as a key."""
        return ";".join(
            "x".join(map(str, p)) if isinstance(p, tuple) else str(p) for p in astuple(self)
        )


@dataclass(frozen=True, slots=True)
class Placed:
    """One call of a layer in a network.

    Attributes:
        weight: the parameter's name: (outs, ins, kernel).
        outs, ins: the first two dims of the weight; of a depthwise convolution ins is 1.
    """

    weight: str
    layer: Layer
    outs: int
    ins: int


def placed(model: nn.Module, example: Any) -> list[Placed]:
    """Every call of a convolution or linear layer in one forward pass, in their order.

    What else a network does (transposed convolutions, attention, LSTMs, its own products) is not
    among them. The network is untouched.

    Raises:
        DataError: the network does not run on the example.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found: list[Placed] = []

    def seen(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        x = inputs[0] if inputs else None
        weight = getattr(module, "weight", None)
        if isinstance(x, Tensor) and isinstance(weight, Tensor) and id(weight) in names:
            one = _layer(module, x)
            if one is not None:
                found.append(Placed(names[id(weight)], one, weight.shape[0], weight.shape[1]))

    with untouched(model), torch.no_grad(), ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, (nn.Linear, *_CONVOLUTIONS)):
                stack.callback(module.register_forward_pre_hook(seen).remove)
        run(model, example, "example")
    return found


def _layer(module: nn.Module, x: Tensor) -> Layer | None:
    if isinstance(module, nn.Linear):
        rows = math.prod(x.shape[1:-1])
        return Layer((), (), (), (), 1, (x.shape[0],) if x.dim() < 3 else (x.shape[0], rows))
    if not isinstance(module, _CONVOLUTIONS) or x.dim() != module.weight.dim():
        return None
    depthwise = (
        module.groups > 1 and module.weight.shape[1] == 1 and module.groups == module.out_channels
    )
    return Layer(
        tuple(module.kernel_size),
        tuple(module.stride),
        _padding(module),
        tuple(module.dilation),
        0 if depthwise else module.groups,
        (x.shape[0], *x.shape[2:]),
    )


def _padding(module: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> tuple[int, ...]:
    """As numbers; "same" that is uneven becomes the larger of both sides."""
    if not isinstance(module.padding, str):
        return tuple(module.padding)
    if module.padding == "valid":
        return (0,) * len(module.kernel_size)
    pairs = zip(module.kernel_size, module.dilation, strict=True)
    return tuple(math.ceil(d * (k - 1) / 2) for k, d in pairs)

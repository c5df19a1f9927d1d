"""Which torch functions are layers, and how their arguments are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from secateur.saliency.lrp.layer import Convolution, Linear


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A call as a layer that reads x."""

    x: Tensor
    layer: Linear | Convolution
    single: bool = False  # one sample without a batch dim; x here has one, of size 1
    only_named: bool = False  # a layer only if its weight is a parameter, else a mere product


def call_of(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call | None:
    """The layer that a call is; None where it is another function."""
    reader = _READERS.get(func)
    found = None if reader is None else reader(*args, **kwargs)
    if found is None or not found.x.is_floating_point():
        return None
    return found


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Call | None:  # noqa: A002
    return Call(input, Linear(weight, bias)) if weight.dim() == 2 else None


def _matmul(*args: Any, **named: Any) -> Call | None:
    """x @ weight: the weight of a Linear, transposed."""
    if named or len(args) != 2 or not all(isinstance(each, Tensor) for each in args):
        return None
    x, weight = args
    if weight.dim() != 2 or x.dim() == 0:
        return None
    return Call(x, Linear(weight.t(), None), only_named=True)


def _addmm(*args: Any, **named: Any) -> Call | None:
    """Bias + x @ weight."""
    if named or len(args) != 3 or args[0].dim() != 1:
        return None
    bias, x, weight = args
    return Call(x, Linear(weight.t(), bias), only_named=True)


def _convolution(dims: int) -> Callable[..., Call]:
    def read(
        input: Tensor,  # noqa: A002 - torch's own names
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Call:
        x, single = _batched(input, weight)
        steps, gaps = _each(stride, dims), _each(dilation, dims)
        before: tuple[int, ...] = (0,) * dims
        if padding == "same":
            both = [gap * (k - 1) for gap, k in zip(gaps, weight.shape[2:], strict=True)]
            if any(total % 2 for total in both):
                sides = [(total // 2, total - total // 2) for total in both]
                x = F.pad(x, [side for pair in reversed(sides) for side in pair])
            else:
                before = tuple(total // 2 for total in both)
        elif padding != "valid":
            before = _each(padding, dims)
        return Call(x, Convolution(weight, bias, steps, before, gaps, groups), single)

    return read


def _transposed(dims: int) -> Callable[..., Call]:
    def read(
        input: Tensor,  # noqa: A002 - torch's own names
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Call:
        x, single = _batched(input, weight)
        layer = Convolution(
            weight,
            bias,
            _each(stride, dims),
            _each(padding, dims),
            _each(dilation, dims),
            groups,
            _each(output_padding, dims),
        )
        return Call(x, layer, single)

    return read


def _batched(x: Tensor, weight: Tensor) -> tuple[Tensor, bool]:
    single = x.dim() == weight.dim() - 1
    return (x.unsqueeze(0) if single else x), single


def _each(value: Any, dims: int) -> tuple[int, ...]:
    """One number a dim; torch takes one for all."""
    several = tuple(value) if isinstance(value, tuple | list | torch.Size) else (value,)
    return tuple(int(v) for v in several) * (dims if len(several) == 1 else 1)


_READERS: dict[Any, Callable[..., Call | None]] = {
    F.linear: _linear,
    torch.conv1d: _convolution(1),
    torch.conv2d: _convolution(2),
    torch.conv3d: _convolution(3),
    torch.conv_transpose1d: _transposed(1),
    torch.conv_transpose2d: _transposed(2),
    torch.conv_transpose3d: _transposed(3),
    torch.addmm: _addmm,
    **dict.fromkeys((torch.matmul, torch.mm, Tensor.matmul, Tensor.mm, Tensor.__matmul__), _matmul),
}

"""Operators that are no layers, where handing gradients on would not conserve relevance.

ReLU, pooling, sums and reshapes need nothing: they conserve relevance by their gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Handler = Callable[[Any, Sequence[Any], Mapping[str, Any]], Any]
"""(function, its arguments) to what it gives; None where its gradients will do."""


def handler_of(func: Any) -> Handler | None:
    """How an operator hands relevance on, if not as it hands on gradients."""
    return _HANDLERS.get(func)


class _Scaled(torch.autograd.Function):
    """What a function gives; going back, c is multiplied by a tensor or number of ours."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, factor: Tensor | float) -> Tensor:  # noqa: ARG004
        ctx.factor = factor
        return y

    @staticmethod
    def backward(ctx: Any, *slopes: Any) -> Any:
        return slopes[0] * ctx.factor, None, None


def _unchanged(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
    """Element by element: relevance stays where it is, R(x) = R(f(x))."""
    x, rest = args[0], {**kwargs, "inplace": False} if "inplace" in kwargs else kwargs
    if not _depends(x):
        return None
    y = func(x.detach(), *args[1:], **rest)
    # where x is zero, its relevance is zero as well: any ratio will do
    ratio = (y / x.detach()).nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
    out: Tensor = _Scaled.apply(x, y, ratio)
    return x.copy_(out) if kwargs.get("inplace") else out


def _split(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """A product of activations: each factor gets an equal share."""
    listed = len(args) == 2 and isinstance(args[1], list | tuple)  # einsum("...", [a, b])
    factors = list(args[1] if listed else args)
    depending = sum(map(_depends, factors))
    if depending < 2:
        return None
    shared = [_part(each, 1.0 / depending) if _depends(each) else each for each in factors]
    return func(args[0], shared, **kwargs) if listed else func(*shared, **kwargs)


def _split_into(_: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """A product that overwrites its first factor."""
    if not all(map(_depends, args)):
        return None
    return args[0].copy_(_split(torch.mul, (args[0].clone(), *args[1:]), kwargs))


def _split_added(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """A term plus a product of activations."""
    return _split(lambda *factors, **named: func(args[0], *factors, **named), args[1:], kwargs)


def _attention(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
    """Scaled dot product attention: half to the values, a quarter to queries and keys each."""
    if len(args) < 3 or not all(isinstance(each, Tensor) for each in args[:3]):
        return None
    query, key, value = args[:3]
    asked, found, shown = map(_depends, (query, key, value))
    pair = 0.5 if shown else 1.0
    share = (pair * (0.5 if found else 1.0), pair * (0.5 if asked else 1.0))
    query, key = _part(query, share[0]), _part(key, share[1])
    value = _part(value, 0.5 if asked or found else 1.0)
    given: Tensor = func(query, key, value, *args[3:], **kwargs)
    return given


def _divided(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """A quotient: the divisor is a constant."""
    if len(args) < 2 or not (_depends(args[0]) and _depends(args[1])):
        return None
    return func(args[0], args[1].detach(), *args[2:], **kwargs)


def _constant(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The factor of a normalisation written by hand."""
    return func(*args, **kwargs).detach()


def _layer_norm(_: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
    return _with_constant_scale(*args, **kwargs) if _depends(args[0]) else None


def _with_constant_scale(
    input: Tensor,  # noqa: A002 - torch's own names
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """LayerNorm as a linear map: the deviation by which it divides is a constant."""
    dims = tuple(range(-len(normalized_shape), 0))
    centred = input - input.mean(dims, keepdim=True)
    square = centred.detach().square().mean(dims, keepdim=True)
    y = centred * (square + eps).rsqrt()
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _group_norm(_: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
    return _by_group(*args, **kwargs) if _depends(args[0]) else None


def _by_group(
    input: Tensor,  # noqa: A002 - torch's own names
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """GroupNorm: a LayerNorm of each group of channels."""
    rows = input.reshape(input.shape[0], num_groups, -1)
    y = _with_constant_scale(rows, rows.shape[2:], None, None, eps).reshape(input.shape)
    shape = (-1, *(1 for _ in input.shape[2:]))
    y = y if weight is None else y * weight.reshape(shape)
    return y if bias is None else y + bias.reshape(shape)


def _depends(value: object) -> bool:
    """Whether a tensor comes from a layer: nothing else requires a gradient here."""
    return isinstance(value, Tensor) and value.requires_grad


def _part(x: Tensor, share: float) -> Tensor:
    """The tensor as it is; going back, a share of c."""
    if share == 1.0 or not x.requires_grad:
        return x
    out: Tensor = _Scaled.apply(x, x.detach().view_as(x), share)
    return out


_CURVES = (
    *(F.relu6, F.hardtanh, F.hardswish, F.hardsigmoid, F.silu, F.gelu, F.mish),
    *(F.elu, F.selu, F.celu, F.softplus, F.softsign, F.logsigmoid, F.tanh, F.sigmoid),
    *(torch.selu, torch.celu, torch.tanh, torch.sigmoid, Tensor.tanh, Tensor.sigmoid),
    *(F.normalize, F.rms_norm),
)
_PRODUCTS = (
    *(torch.mul, torch.multiply, Tensor.mul, Tensor.multiply, Tensor.__mul__, Tensor.__rmul__),
    *(torch.matmul, torch.mm, torch.bmm, torch.einsum),
    *(Tensor.matmul, Tensor.mm, Tensor.bmm, Tensor.__matmul__, Tensor.__rmatmul__),
)
_QUOTIENTS = (torch.div, torch.true_divide, Tensor.div, Tensor.true_divide, Tensor.__truediv__)

_HANDLERS: dict[Any, Handler] = {
    **dict.fromkeys(_CURVES, _unchanged),
    **dict.fromkeys(_PRODUCTS, _split),
    **dict.fromkeys((Tensor.mul_, Tensor.__imul__), _split_into),
    **dict.fromkeys((torch.baddbmm, Tensor.baddbmm), _split_added),
    **dict.fromkeys(_QUOTIENTS, _divided),
    **dict.fromkeys((torch.rsqrt, Tensor.rsqrt), _constant),
    F.scaled_dot_product_attention: _attention,
    F.layer_norm: _layer_norm,
    F.group_norm: _group_norm,
}

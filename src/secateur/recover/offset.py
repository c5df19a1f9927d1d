"""Where a constant can be added to what a layer returns, without a new parameter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from secateur.recover.consumers import Consumer
from secateur.types.layers import alone

NOWHERE = "it has no bias of its own, and does not lead straight into a BatchNorm"


@dataclass(frozen=True, slots=True, eq=False)
class Offset:
    """A layer's bias; or the running mean that the BatchNorm behind it subtracts, with its sign turned.

    Attributes:
        name: of the tensor, in the small network.
        tensor: (O,), of the small network.
        sign: 1 for a bias, -1 for a running mean.
        origin: float64 (O,), what of the tensor the dense layer's output does not show: 0 for a
            bias, the dense network's running mean.
    """

    name: str
    tensor: Tensor
    sign: float
    origin: Tensor

    @property
    def value(self) -> Tensor:
        """float64 (O,): what is added to the product, beside what the dense network adds."""
        return (self.tensor.detach().double() - self.origin) * self.sign

    def holding(self, value: Tensor) -> Tensor:
        """What the tensor must hold so that `value` is added, in its dtype."""
        return (value * self.sign + self.origin).to(self.tensor.dtype)


def offset_of(
    consumer: Consumer, small: nn.Module, model: nn.Module, norms: Mapping[str, str]
) -> Offset | None:
    """The bias, else the running mean of the BatchNorm that the layer leads straight into, else None."""
    prefix = f"{consumer.name}." if consumer.name else ""
    bias = consumer.small.bias
    if bias is not None:
        zero = bias.new_zeros(bias.shape, dtype=torch.float64)
        return Offset(f"{prefix}bias", bias, 1.0, zero) if alone(small, bias) else None
    if consumer.name not in norms:
        return None
    path = norms[consumer.name]
    mean, before = (network.get_submodule(path).running_mean for network in (small, model))
    if not (isinstance(mean, Tensor) and isinstance(before, Tensor) and alone(small, mean)):
        return None
    origin = before.detach().double()[consumer.outputs.to(before.device)].to(mean.device)
    return Offset(f"{path}.running_mean", mean, -1.0, origin)

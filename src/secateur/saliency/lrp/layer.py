"""A Linear or convolution as a linear map: run it, run it backwards, and sum what it shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from secateur.saliency.lrp.patches import Axis, patch_sums


class Layer(Protocol):
    """y = W x + b; x and y have the samples in front, and positions wherever the operator has them."""

    @property
    def weight(self) -> Tensor:
        """W as the operator is given it."""
        ...

    @property
    def bias(self) -> Tensor | None:
        """(outputs,)."""
        ...

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The same operator with another weight."""
        ...

    def backward(self, slopes: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """The transposed map, for slopes of y's shape; of x's shape."""
        ...

    def largest(self, y: Tensor) -> Tensor:
        """The largest element among those that must lie in one sample; broadcasts against y."""
        ...

    def sums(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Sums of x and y over samples and positions, each broadcasting to the weight's shape.

        An element of x counts once for every weight of an input channel and position that it meets.
        """
        ...

    def positions(self, y: Tensor) -> int:
        """How often each weight is used: samples times output positions."""
        ...

    def folded(self, gain: Tensor, shift: Tensor) -> Self:
        """The layer with `gain * y + shift` as its output, both (outputs,)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """x (..., inputs), weight (outputs, inputs), y (..., outputs)."""

    weight: Tensor
    bias: Tensor | None

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """As torch does it."""
        return F.linear(x, weight, bias)

    def backward(self, slopes: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """(..., outputs) to (..., inputs)."""
        return slopes @ weight

    def largest(self, y: Tensor) -> Tensor:
        """Of each row: whether samples come first or second does not matter."""
        return y.amax(-1, keepdim=True)

    def sums(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """(1, inputs) and (outputs, 1)."""
        columns = x.reshape(-1, x.shape[-1]).sum(0)
        rows = y.reshape(-1, y.shape[-1]).sum(0)
        return columns[None], rows[:, None]

    def positions(self, y: Tensor) -> int:
        """Rows of the matrix product."""
        return y.numel() // max(1, y.shape[-1])

    def folded(self, gain: Tensor, shift: Tensor) -> Linear:
        """Rows of the weight times the gain."""
        bias = shift if self.bias is None else self.bias * gain + shift
        return Linear(self.weight * gain[:, None], bias)


@dataclass(frozen=True, slots=True, eq=False)
class Convolution:
    """x (N, inputs, ...), y (N, outputs, ...); one to three dims of positions.

    The weight is (outputs, inputs / groups, ...), or (inputs, outputs / groups, ...) where it is
    transposed.
    """

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    output_padding: tuple[int, ...] | None = None  # None: it is not transposed

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """As torch does it."""
        return torch.convolution(
            x,
            weight,
            bias,
            self.stride,
            self.padding,
            self.dilation,
            self.transposed,
            self.output_padding or (0,) * len(self.stride),
            self.groups,
        )

    def backward(self, slopes: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """The gradient for the input."""
        found: Tensor = torch.ops.aten.convolution_backward(
            slopes,
            x,
            weight,
            None,
            self.stride,
            self.padding,
            self.dilation,
            self.transposed,
            self.output_padding or (0,) * len(self.stride),
            self.groups,
            (True, False, False),
        )[0]
        return found

    @property
    def transposed(self) -> bool:
        """Whether pixels are spread over outputs, rather than outputs gathered from pixels."""
        return self.output_padding is not None

    @property
    def kernel(self) -> Sequence[int]:
        """Sizes of the kernel's own dims."""
        return self.weight.shape[2:]

    def largest(self, y: Tensor) -> Tensor:
        """Of each sample."""
        return y.amax(tuple(range(1, y.dim())), keepdim=True)

    def sums(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """As tensors of the weight's shape, or of size 1 where they do not vary."""
        pixels = x.sum(0).double()
        axes = [
            Axis(*sizes, transposed=self.transposed)
            for sizes in zip(
                self.kernel, y.shape[2:], self.stride, self.padding, self.dilation, strict=True
            )
        ]
        columns = self._of_inputs(patch_sums(pixels, axes))
        return columns, self._of_outputs(y.sum([0, *range(2, y.dim())]))

    def positions(self, y: Tensor) -> int:
        """Samples times output positions."""
        return y.numel() // max(1, y.shape[1])

    def folded(self, gain: Tensor, shift: Tensor) -> Convolution:
        """Filters times the gain."""
        bias = shift if self.bias is None else self.bias * gain + shift
        return replace(self, weight=self.weight * self._of_outputs(gain), bias=bias)

    def _of_outputs(self, vector: Tensor) -> Tensor:
        """(outputs,) to a shape that broadcasts to the weight's."""
        ones = (1,) * len(self.stride)
        if not self.transposed:
            return vector.reshape(-1, 1, *ones)
        by_group = vector.reshape(self.groups, -1)
        each = self.weight.shape[0] // self.groups if self.groups > 1 else 1
        return by_group.repeat_interleave(each, 0).reshape(-1, by_group.shape[1], *ones)

    def _of_inputs(self, patches: Tensor) -> Tensor:
        """(inputs, kernel) to a shape that broadcasts to the weight's."""
        if self.transposed:
            return patches[:, None]
        by_group = patches.reshape(self.groups, -1, *self.kernel)
        each = self.weight.shape[0] // self.groups if self.groups > 1 else 1
        return by_group.repeat_interleave(each, 0)

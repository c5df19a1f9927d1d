"""Fake quantisation: float weights that lie on the grid of an integer code, and still learn.

    q(w) = scale * code(w),   code = round(w / scale) in -(2^(b-1) - 1) ... 2^(b-1) - 1,   zero is 0
    one bit: code = sign(w); zero stays 0, or counts as +1 where a mask follows that says what is zero

The scale follows the weights, is a constant on the way back, and is rounded to 16 binary digits, so that
a code times a scale is exact: what is on the grid stays where it is when it is quantised again.

Weights are quantised first and masked afterwards: so a mask of k ones a row leaves k weights at one bit,
and the scale does not change with every mask that is drawn. Masks that are written into the weights
themselves (`sec.masked`, `sec.finetune(plan=...)`) hold as well, since zero is on every grid.

Source: Gonzalez-Carabarin, Huijben, Veeling, Schmid, van Sloun, Dynamic Probabilistic Pruning, arXiv
2105.12686, and the authors' code, whose weights stay integers; dividing by the scale again is ours.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from secateur.errors import ModelError, OptionError

BITS = (1, 2, 4, 8)


class StraightThrough(enum.Enum):
    """The derivative that stands for that of a rounding, which is zero almost everywhere."""

    IDENTITY = "identity"  # 1
    HARD_SIGMOID = "hard sigmoid"  # of clip(0.4 w, -1, 1), as in the authors' code


@dataclass(frozen=True, slots=True)
class Quantizer:
    """How weights are quantised.

    Attributes:
        bits: 1, 2, 4 or 8 for one weight.
        per_channel: one scale for each index of the first dim, which is the output of a Linear and of
            a convolution; False: one for the tensor, as vectors have it anyway.
        scaled: False leaves one-bit weights at -1 and +1.
        through: what gradients go through.
    """

    bits: int = 8
    per_channel: bool = True
    scaled: bool = True
    through: StraightThrough = StraightThrough.IDENTITY

    def __post_init__(self) -> None:
        if type(self.bits) is not int or self.bits not in BITS:
            raise OptionError(f"bits={self.bits!r}", where="Quantizer", hint="1, 2, 4 or 8")
        through: object = self.through
        if not isinstance(through, StraightThrough):
            known = ", ".join(f"secateur.learn.{one}" for one in StraightThrough)
            raise OptionError(f"through={through!r} is none", where="Quantizer", hint=known)
        if not self.scaled and self.bits != 1:
            raise OptionError(
                f"{self.bits} bits without a scale", where="Quantizer", hint="scaled=False at 1 bit"
            )

    def build(self, where: str = "", *, masked: bool = False) -> FakeQuantized:
        """A parametrisation for one tensor.

        Args:
            where: its name, for messages.
            masked: a mask follows, which alone says what is zero: at one bit, sign(0) is +1.
        """
        return FakeQuantized(self, where, masked=masked)

    def scales(self, outputs: int) -> int:
        """How many scales a tensor of several dims needs, the first of so many outputs."""
        return (outputs if self.per_channel else 1) if self.scaled else 0

    def scale(self, values: Tensor, where: str = "") -> Tensor:
        """float32 (outputs,), or () for one scale.

        The largest |w| over the largest code; at one bit the mean |w| of what is not zero, as weights
        are that are masked for good. 0 where all is zero; else never below the least normal number, nor
        so large that the largest code times it is infinite.

        Raises:
            ModelError: a weight is not a finite real number.
        """
        if not values.is_floating_point():
            raise ModelError(f"{values.dtype} cannot be quantised", where)
        each = self.per_channel and values.dim() > 1
        size = values.detach().float().abs()
        size = size.flatten(1) if each else size.flatten().unsqueeze(0)
        if self.bits == 1:
            there = size.sign().sum(1).clamp_min_(1.0)
            found = size.sum(1) / there
            if not bool(found.isfinite().all()):  # the sum may be too large where the mean is not
                found = (size.double().sum(1) / there).float()
        else:
            found = size.amax(1) / largest(self.bits) if size.numel() else size.sum(1)
        if not bool(found.isfinite().all()):
            raise ModelError(
                "not all weights are finite",
                where,
                hint="a smaller learning rate, or check the network that was given",
            )
        most = _MOST[self.bits]
        found = short(found).clamp_max_(most) if self.scaled else torch.ones_like(found)
        return found if each else found.squeeze(0)

    def round(self, values: Tensor, scale: Tensor, *, masked: bool = False) -> Tensor:
        """The codes as whole numbers, float32, of the shape of `values`; see `build`."""
        values = values.detach().float()
        if self.bits > 1:
            return on_grid(values, scale)
        if masked:
            return scale.new_ones(()).copysign(values + 0.0)  # -0 counts as 0
        return values.sign()


class FakeQuantized(nn.Module):
    """A parametrisation: the values of a tensor, quantised. It holds no state."""

    def __init__(self, quantizer: Quantizer, where: str = "", *, masked: bool = False) -> None:
        super().__init__()
        self.quantizer, self.where, self.masked = quantizer, where, masked

    def forward(self, values: Tensor) -> Tensor:
        """Values of the tensor's shape and dtype, on the grid.

        Raises:
            ModelError: a weight is not finite.
        """
        scale = self.quantizer.scale(values, self.where)
        codes = self.quantizer.round(values, scale, masked=self.masked)
        found = codes.mul_(along(scale, values.dim())).to(values.dtype)
        return straight_through(values, found, self.quantizer.through)

    def extra_repr(self) -> str:
        """For print(model)."""
        return f"bits={self.quantizer.bits}"


def largest(bits: int) -> int:
    """The largest code: 127, 7, 1, and 1 at one bit."""
    return max(1, (1 << bits - 1) - 1)


def along(scale: Tensor, dims: int) -> Tensor:
    """A scale, (outputs,) or (), so that it broadcasts over the first of so many dims."""
    return scale.view(-1, *[1] * (dims - 1)) if scale.dim() else scale


def on_grid(values: Tensor, scale: Tensor) -> Tensor:
    """The nearest whole numbers of steps of the scale; 0 where the scale is."""
    normal = scale.clamp_min(torch.finfo(torch.float32).tiny)
    return (values / along(normal, values.dim())).round_()


def straight_through(values: Tensor, quantized: Tensor, through: StraightThrough) -> Tensor:
    """`quantized`, bit for bit, with gradients for `values`."""
    found: Tensor = _Straight.apply(values, quantized, through)
    return found


class _Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, quantized: Tensor, through: StraightThrough) -> Tensor:
        ctx.through = through
        if through is StraightThrough.HARD_SIGMOID:
            ctx.save_for_backward(values)
        return quantized

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        if ctx.through is StraightThrough.IDENTITY:
            return gradients[0], None, None
        (values,) = ctx.saved_tensors
        within = values.abs() <= 1.0 / _SLOPE
        return gradients[0] * within * _SLOPE, None, None


def short(scale: Tensor) -> Tensor:
    """Rounded to 16 binary digits, so that a code, of 7 at most, times it is exact in float32's 24."""
    normal = scale.clamp_min(torch.finfo(torch.float32).tiny)
    short = ((normal.view(torch.int32) + 0x80) & -0x100).view(torch.float32)
    return short.where(scale > 0, 0.0)


def _longest(bits: int) -> float:
    """The largest scale of 16 binary digits whose product with every code is finite in float32."""
    most = torch.tensor(torch.finfo(torch.float32).max / largest(bits))
    return float((most.view(torch.int32) & -0x100).view(torch.float32))


_MOST = {bits: _longest(bits) for bits in BITS}

_SLOPE = 0.4  # of 2 * hard_sigmoid(x) - 1, with Keras's hard_sigmoid(x) = clip(0.2 x + 0.5, 0, 1)

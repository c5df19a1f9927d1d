"""Sums over the pixels that meet a kernel position: the columns of the unrolled convolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Axis:
    """One dim of a convolution: which pixels a position of the kernel meets.

    Pixel p and output o meet at kernel position k where p = o * stride + k * dilation - padding; in
    a transposed convolution o = p * stride + k * dilation - padding.
    """

    kernel: int
    outputs: int
    stride: int
    padding: int
    dilation: int
    transposed: bool = False

    def met(self, k: int, pixels: int) -> slice:
        """The pixels that meet position k; those in the padding do not exist."""
        shift = k * self.dilation - self.padding
        mine, theirs = (pixels, self.outputs) if self.transposed else (self.outputs, pixels)
        # of the side without the stride: 0 <= i < mine, and 0 <= i * stride + shift < theirs
        first = max(0, -(shift // self.stride))
        last = min(mine - 1, (theirs - 1 - shift) // self.stride)
        if last < first:
            return slice(0, 0)
        if self.transposed:
            return slice(first, last + 1)
        return slice(first * self.stride + shift, last * self.stride + shift + 1, self.stride)


def patch_sums(pixels: Tensor, axes: Sequence[Axis]) -> Tensor:
    """(channels, one dim of pixels an axis) to (channels, one kernel dim an axis).

    Dim by dim, since what one axis meets does not depend on the others.
    """
    for dim, axis in enumerate(axes, start=1):
        along = pixels.movedim(dim, 0)
        met = [along[axis.met(k, len(along))].sum(0) for k in range(axis.kernel)]
        pixels = torch.stack(met, dim)
    return pixels

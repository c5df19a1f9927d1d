"""Gumbel noise that follows its seed."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def gumbel(shape: tuple[int, int], seed: int, device: torch.device) -> Tensor:
    """Standard Gumbel noise, -log(-log u), float32; equal seeds give equal noise on one kind of device.

    On the CPU u is (2 m + 1) / 2^24 with 23 random bits m: neither 0 nor 1, and symmetric.
    """
    if device.type == "cpu":  # numpy draws and takes logarithms in a third of torch's time
        count = math.prod(shape)
        bits = np.random.SFC64(seed).random_raw((count + 1) // 2).view(np.uint32)[:count]
        return torch.from_numpy(_of_bits(bits)).view(shape)
    generator = torch.Generator(device).manual_seed(seed)
    drawn = torch.rand(shape, generator=generator, device=device)
    return drawn.clamp_min_(_LEAST).log_().neg_().log_().neg_()


def _of_bits(bits: np.ndarray) -> np.ndarray:
    """uint32 to float32, in the same memory: fresh memory costs as much as a logarithm."""
    np.right_shift(bits, 9, out=bits)
    np.bitwise_or(bits, _ONE, out=bits)
    values = bits.view(np.float32)  # 1 + m / 2^23
    np.subtract(values, np.float32(1.0 - 2.0**-24), out=values)
    for _ in range(2):
        np.log(values, out=values)
        np.negative(values, out=values)
    return values


_LEAST = 2.0**-26  # below the least positive number of 24 bits
_ONE = np.uint32(0x3F800000)  # the bits of 1.0

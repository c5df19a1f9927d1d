"""Weights rounded for a small file: to few bits and a scale, or to a shorter float."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.errors import ModelError, OptionError
from secateur.learn import Quantizer, codes
from secateur.learn.quantize import BITS

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class Rounding:
    """What becomes of numbers before they are packed.

    Attributes:
        bits: 8, 4, 2 or 1 for every weight of two dims or more, with a scale for each index of the
            first; None leaves them.
        dtype: "float32", "bfloat16" or "float16": all other floats keep what fits into one, and stay
            of the dtype that they have; None leaves them.
    """

    bits: int | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        if self.bits is not None and self.bits not in BITS:
            raise OptionError(f"{self.bits} bits", where="bits", hint="8, 4, 2 or 1")
        if self.dtype is not None and self.dtype not in tuple(DTYPES):
            raise OptionError(f"{self.dtype!r}", where="dtype", hint=", ".join(DTYPES))

    def of(self, tensors: Mapping[str, Tensor], parameters: Set[str]) -> dict[str, Tensor]:
        """The tensors, rounded; those that nothing is done to are the same ones.

        Args:
            parameters: which of them are parameters; `bits` says nothing about buffers.

        Raises:
            ModelError: a weight is not finite, or too large for the dtype.
        """
        return {name: self._one(name, t, name in parameters) for name, t in tensors.items()}

    def _one(self, name: str, tensor: Tensor, parameter: bool) -> Tensor:
        if not tensor.is_floating_point() or not tensor.numel():
            return tensor
        values = tensor.detach()
        if self.bits is not None and parameter and values.dim() > 1:
            return codes(values, Quantizer(self.bits), where=name).values().to(values.dtype)
        if self.dtype is None:
            return tensor
        short = values.to(DTYPES[self.dtype]).to(values.dtype)
        if not bool((short.isfinite() | ~values.isfinite()).all()):
            raise ModelError(f"holds a number too large for {self.dtype}", where=name)
        return short

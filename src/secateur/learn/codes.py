"""Integer codes and scales, read off quantised weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from secateur.errors import ModelError
from secateur.learn.parametrised import Places
from secateur.learn.quantize import BITS, FakeQuantized, Quantizer, along, largest, on_grid
from secateur.types.untouched import mode


@dataclass(frozen=True, slots=True, eq=False)
class Codes:
    """A tensor of weights as whole numbers times a scale.

    Attributes:
        codes: int8, of the shape of the weights; 0 is a weight of zero, masked or not.
        scale: float32 (outputs,), or () for one; finite, from 0.
        bits: 1, 2, 4 or 8 for one code; at one bit a code is -1 or +1, or 0 for a zero.

    Raises:
        ModelError: the three do not belong together.
    """

    codes: Tensor
    scale: Tensor
    bits: int

    def __post_init__(self) -> None:
        if self.bits not in BITS or self.codes.dtype != torch.int8:
            raise ModelError(f"{self.bits} bits in {self.codes.dtype} are no codes")
        shapes = ((), tuple(self.codes.shape[:1]))
        if self.scale.dtype != torch.float32 or tuple(self.scale.shape) not in shapes:
            found = f"{self.scale.dtype} {tuple(self.scale.shape)}"
            raise ModelError(f"codes {tuple(self.codes.shape)} cannot have a scale {found}")
        if not bool(((self.scale >= 0) & self.scale.isfinite()).all()):
            raise ModelError("a scale is not finite, or below 0")
        if self.codes.numel() and int(self.codes.int().abs().max()) > largest(self.bits):
            raise ModelError(f"a code does not fit into {self.bits} bits")

    def values(self) -> Tensor:
        """The weights, float32: code times scale, which is exact."""
        return self.codes.float() * along(self.scale, self.codes.dim())


def codes(
    values: Tensor, quantizer: Quantizer, scale: Tensor | None = None, where: str = ""
) -> Codes:
    """What the quantiser makes of weights, so that `codes(...).values()` is the quantised tensor.

    Weights that are on the grid already stay as they are, unless the largest of them has been masked
    since: no one can tell then what the scale was. So give it, or read the codes of a network before
    the mask, as `Gated.codes` and `Quantized.codes` do.

    Args:
        values: float weights, (outputs, ...).
        scale: of weights that are on its grid, masked or not; without it, as the weights have it.
        where: their name, for messages.

    Raises:
        ModelError: a weight is not finite, or not on the grid of the scale that is given.
    """
    found = quantizer.scale(values, where) if scale is None else scale
    if scale is None:
        return Codes(quantizer.round(values, found).to(torch.int8), found, quantizer.bits)
    whole = on_grid(values.detach().float(), scale)
    again = (whole * along(scale, values.dim())).to(values.dtype)
    if not torch.equal(again, values) or bool((whole.abs() > largest(quantizer.bits)).any()):
        raise ModelError(
            f"the weights are not on the grid of the scale, at {quantizer.bits} bits",
            where,
            hint="codes(values, quantizer) quantises them",
        )
    return Codes(whole.to(torch.int8), scale, quantizer.bits)


def read(model: nn.Module, places: Places) -> dict[str, Codes]:
    """The codes of every quantised tensor by name, as in eval mode: zero where a mask is.

    Scales come from what is quantised, as in training; the mask is applied to the codes.
    """
    found = {}
    with torch.no_grad(), mode(model, training=False):  # gates may hang on other tensors as well
        for name, where in places.items():
            module, attribute = where[0]
            if parametrize.is_parametrized(module, attribute):
                one = _read(getattr(module.parametrizations, attribute), name)
                if one is not None:
                    found[name] = one
    return found


def _read(chain: parametrize.ParametrizationList, name: str) -> Codes | None:
    """Of one tensor's parametrisations, of which the first quantises."""
    quantized, *masks = chain
    if not isinstance(quantized, FakeQuantized):
        return None
    quantizer, original = quantized.quantizer, chain.original
    scale = quantizer.scale(original, name)
    found = quantizer.round(original, scale, masked=quantized.masked)
    for mask in masks:
        found = mask(found)
    return Codes(found.to(torch.int8), scale, quantizer.bits)

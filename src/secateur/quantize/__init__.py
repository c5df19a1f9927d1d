"""Weights of few bits, after pruning and without training."""

from secateur.quantize.quantize import quantize
from secateur.quantize.rounded import Rounded

__all__ = ["Rounded", "quantize"]

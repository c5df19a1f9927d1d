"""Zeros that save time: Linear layers run sparse, where a measurement says that it is faster."""

from secateur.accelerate.accelerate import accelerate
from secateur.accelerate.accelerated import Accelerated, Timed
from secateur.accelerate.sparse_linear import SparseLinear

__all__ = ["Accelerated", "SparseLinear", "Timed", "accelerate"]

"""What a unit is, and finding all of them."""

from secateur.granularity.experts import Experts
from secateur.granularity.granularity import Block, Channels, Granularity, Heads, Kernels, Weights

__all__ = ["Block", "Channels", "Experts", "Granularity", "Heads", "Kernels", "Weights"]

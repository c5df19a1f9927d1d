"""What a unit is, and finding all of them."""

from secateur.granularity.granularity import Block, Channels, Granularity, Kernels, Weights

__all__ = ["Block", "Channels", "Granularity", "Kernels", "Weights"]

"""Linear layers and convolutions: the layers that multiply one weight by what they read."""

from __future__ import annotations

from torch import Tensor, nn

Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
KINDS: tuple[type[Layer], ...] = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def alone(model: nn.Module, tensor: Tensor) -> bool:
    """Whether no second module holds a parameter or buffer."""
    holders = (
        module
        for module in model.modules()
        for held in (*module.parameters(recurse=False), *module.buffers(recurse=False))
        if held is tensor
    )
    return sum(1 for _ in holders) == 1


def computes_otherwise(layer: Layer) -> bool:
    """Whether a Linear layer or convolution has a forward pass of its own."""
    base = next(kind for kind in KINDS if isinstance(layer, kind))
    return any(_differs(layer, base, name) for name in ("forward", "_conv_forward"))


def _differs(owner: nn.Module, base: type[nn.Module], name: str) -> bool:
    return name in vars(owner) or getattr(type(owner), name, None) is not getattr(base, name, None)

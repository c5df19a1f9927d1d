"""What goes into every Linear and convolution, quantised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from secateur.errors import ModelError, OptionError
from secateur.learn.quantize import StraightThrough, largest, straight_through

_NAME = "input_quantizer"
_KINDS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


@dataclass(frozen=True, slots=True)
class ActivationQuantizer:
    """How activations are quantised: one symmetric scale a layer, from the largest that was seen.

    In train mode it is the largest of the batch, so that nothing is clipped; in eval mode a running
    mean of those, and what is larger is clipped. Before the first batch in train mode, that of the
    batch itself. Gradients pass unchanged.

    Attributes:
        bits: 2, 4 or 8.
        momentum: how much of the running mean is the newest batch.
    """

    bits: int = 8
    momentum: float = 0.1

    def __post_init__(self) -> None:
        if self.bits not in (2, 4, 8):
            raise OptionError(
                f"bits={self.bits}",
                where="ActivationQuantizer",
                hint="2, 4 or 8: the sign of what a ReLU returns says nothing",
            )
        if not 0.0 < self.momentum <= 1.0:
            raise OptionError(
                f"momentum={self.momentum}", where="ActivationQuantizer", hint="momentum=0.1"
            )

    def attach(self, model: nn.Module, ranges: Mapping[str, float] | None = None) -> Attached:
        """Put it in front of every Linear and convolution, in place.

        A layer whose weights are used without calling it, as attention's output projection, is left
        as it is.

        Args:
            ranges: module path → the largest activation, as `input_ranges` has it.

        Raises:
            ModelError: the network has none of these layers, or has quantisers already.
            OptionError: ranges of other layers, or no finite numbers from 0.
        """
        layers = {name: m for name, m in model.named_modules() if isinstance(m, _KINDS)}
        if not layers:
            raise ModelError("there is no Linear and no convolution")
        for name in (ranges or {}).keys() - layers.keys():
            raise OptionError("there is no Linear and no convolution of that name", where=name)
        for name, module in layers.items():
            if hasattr(module, _NAME):
                raise ModelError("its input is quantised already", where=name)
        seen = {name: (ranges or {}).get(name, 0.0) for name in layers}
        made = {name: InputQuantizer(self, name, top) for name, top in seen.items()}
        handles = []
        for name, module in layers.items():  # nothing is attached where anything is wrong
            device = next(module.parameters()).device
            module.add_module(_NAME, made[name].train(module.training).to(device))
            handles.append(module.register_forward_pre_hook(_quantize, with_kwargs=True))
        return Attached(layers, tuple(handles))


@dataclass(frozen=True, slots=True, eq=False)
class Attached:
    """Quantisers on the layers of one network.

    Attributes:
        layers: module path → the layer.
    """

    layers: Mapping[str, nn.Module]
    handles: tuple[RemovableHandle, ...]

    def remove(self) -> None:
        """Leave the network as it was."""
        for handle in self.handles:
            handle.remove()
        for layer in self.layers.values():
            delattr(layer, _NAME)


def input_ranges(model: nn.Module) -> dict[str, float]:
    """Path of every layer with a quantiser → its largest activation in eval mode; 0: none was seen."""
    made = ((name, m) for name, m in model.named_modules() if isinstance(m, InputQuantizer))
    return {name.rpartition(".")[0]: float(m.largest) for name, m in made}


class InputQuantizer(nn.Module):
    """Activations on the grid of an integer code.

    Attributes:
        largest: float32 (), running mean of the largest activations; 0 before the first batch.
    """

    largest: Tensor

    def __init__(self, quantizer: ActivationQuantizer, where: str, seen: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= seen < float("inf"):
            raise OptionError(f"{seen} is no largest activation", where=where)
        self.quantizer, self.where = quantizer, where
        self.register_buffer("largest", torch.tensor(seen))

    def forward(self, x: Tensor) -> Tensor:
        """Of the shape and dtype of `x`.

        Raises:
            ModelError: an activation is not finite.
        """
        values = x.detach().float()
        top = values.abs().amax() if values.numel() else values.new_zeros(())
        if not bool(top.isfinite()):
            raise ModelError("not all activations are finite", where=self.where)
        if self.training:
            self._see(top)
        elif bool(self.largest > 0):
            top = self.largest.float()
        most = largest(self.quantizer.bits)
        scale = (top / most).clamp_min(torch.finfo(torch.float32).tiny)
        found = (values / scale).round_().clamp_(-most, most).mul_(scale).to(x.dtype)
        return straight_through(x, found, StraightThrough.IDENTITY)

    def _see(self, top: Tensor) -> None:
        newest = self.quantizer.momentum * (top - self.largest)
        self.largest.copy_(torch.where(self.largest > 0, self.largest + newest, top))


def _quantize(
    module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A forward pre-hook that finds its quantiser on the module, as copies of the network have it."""
    quantizer = module.get_submodule(_NAME)
    if args:
        return (quantizer(args[0]), *args[1:]), named
    return args, {**named, "input": quantizer(named["input"])}

"""Weights with their channels last while a network runs: on a CPU convolutions are faster so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from secateur.types.call import call, of_size, tensors
from secateur.types.untouched import untouched


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Other memory for the same values of some weights.

    Attributes:
        weights: each with its values laid out anew.
    """

    weights: tuple[tuple[nn.Parameter, Tensor], ...] = ()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Inside, the weights lie there; afterwards where they lay before. Nothing may write to them."""
        before = [weight.data for weight, _ in self.weights]
        try:
            for weight, laid_out in self.weights:
                weight.data = laid_out
            yield
        finally:
            for (weight, _), values in zip(self.weights, before, strict=True):
                weight.data = values


def suited(model: nn.Module, example: Any) -> Layout:
    """On a CPU channels last, where the network runs so, forward and backward, on one sample.

    Code that views memory as it likes depends on the layout; such a network keeps its own.
    """
    own = [
        (weight, weight.detach().clone(memory_format=torch.channels_last))
        for weight in model.parameters()
        if _of_a_convolution(weight)
    ]
    # strides, as `is_contiguous` holds either way where a kernel or the channels before are single
    layout = Layout(tuple((w, laid_out) for w, laid_out in own if laid_out.stride() != w.stride()))
    if not layout.weights:
        return layout
    try:
        with layout.running(), untouched(model), torch.random.fork_rng([]), torch.enable_grad():
            for weight, _ in layout.weights:
                weight.requires_grad_(True)
            found = [out for out in tensors(call(model, of_size(example, 1))) if out.requires_grad]
            if found:
                torch.autograd.grad(
                    sum((out.real.sum() for out in found), torch.zeros(())),
                    [weight for weight, _ in layout.weights],
                    allow_unused=True,
                )
    except Exception:  # noqa: BLE001, whatever it is: the run that follows will say so, if it was not the layout
        return Layout()
    return layout


def _of_a_convolution(weight: nn.Parameter) -> bool:
    plain = type(weight) is nn.Parameter and weight.layout is torch.strided
    return (
        plain
        and weight.device.type == "cpu"
        and weight.dim() == 4
        and weight.is_contiguous()
        and not weight.is_inference()
    )

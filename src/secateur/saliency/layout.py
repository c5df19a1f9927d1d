"""Weights with their channels last while a network runs: on a CPU convolutions are faster so."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from secateur.errors import SecateurError
from secateur.types.call import call, of_size, tensors
from secateur.types.outputs import distance, largest
from secateur.types.untouched import untouched

_SAME = 1e-2  # of the largest number: rounding makes less, values in wrong places make more
_OF_CODE = (
    RuntimeError, TypeError, ValueError, AttributeError, LookupError, ArithmeticError, AssertionError,
    SecateurError,
)  # fmt: skip
_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Other memory for the same values of some weights.

    Attributes:
        weights: each with its values laid out anew.
    """

    weights: tuple[tuple[Tensor, Tensor], ...] = ()

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


Suits = Callable[[Any], Layout]
"""From a batch to how the weights lie while it runs."""


def suits(model: nn.Module) -> Suits:
    """What `suited` finds with the first batch, then and for all that follow."""
    found: list[Layout] = []

    def layout(example: Any) -> Layout:
        if not found:
            found.append(suited(model, example))
        return found[0]

    return layout


def suited(model: nn.Module, example: Any) -> Layout:
    """On a CPU channels last for torch's own convolutions, where a copy of the network says it may be.

    The copy runs on one sample. Networks whose code sees how a weight lies in memory, writes to it, or
    keeps it, keep their own layout; so do those that cannot be copied or do not run on one sample, and
    those with hooks, which would take the trial for a run.
    """
    names = _convolutions(model)
    if not names or any(map(_hooked, model.modules())):
        return Layout()
    try:
        alike = _alike(copy.deepcopy(model), names, of_size(example, 1))
    except _OF_CODE:  # what is wrong in any layout, the run will say
        return Layout()
    return _channels_last(names.values()) if alike else Layout()


def _convolutions(model: nn.Module) -> dict[str, Tensor]:
    """The weights that lie otherwise yet, by name."""
    found: dict[str, Tensor] = {}
    for path, module in model.named_modules():
        weight = module._parameters.get("weight")
        if type(module) not in _CONVOLUTIONS or type(weight) is not nn.Parameter:
            continue
        inputs, width = weight.shape[1], weight.shape[3]
        last = (weight[0].numel(), 1, width * inputs, inputs)
        # by strides: where a kernel or the channels before it are single, `is_contiguous` holds either way
        if weight.device.type == "cpu" and weight.is_contiguous() and weight.stride() != last:
            found[f"{path}.weight" if path else "weight"] = weight
    return {} if any(weight.is_inference() for weight in found.values()) else found


def _hooked(module: nn.Module) -> bool:
    ways = ("_forward", "_forward_pre", "_backward", "_backward_pre")
    return any(getattr(module, f"{way}_hooks") for way in ways)


def _channels_last(weights: Iterable[Tensor]) -> Layout:
    return Layout(tuple((w, w.detach().clone(memory_format=torch.channels_last)) for w in weights))


def _alike(model: nn.Module, names: Mapping[str, Tensor], example: Any) -> bool:
    """Whether outputs and gradients are the same in both layouts; the model is spent afterwards."""
    weights = [model.get_parameter(name) for name in names]
    layout = _channels_last(weights)
    with layout.running():
        last = _seen(model, weights, example)
        kept = all(weight.data_ptr() == laid_out.data_ptr() for weight, laid_out in layout.weights)
    kept &= all(map(torch.equal, [laid_out for _, laid_out in layout.weights], names.values()))
    for _, laid_out in layout.weights:
        laid_out.fill_(math.nan)  # whoever still looks there will be seen
    return kept and _close(last, _seen(model, weights, example))


def _seen(model: nn.Module, weights: Sequence[Tensor], example: Any) -> list[Tensor]:
    """What the network returns, and the gradients of its sum."""
    with untouched(model), torch.random.fork_rng([]), torch.enable_grad():
        for weight in weights:
            weight.requires_grad_(True)
        outputs = list(tensors(call(model, example)))
        led = [out.real.sum() for out in outputs if out.requires_grad]
        found = torch.autograd.grad(led, weights, materialize_grads=True) if led else ()
        return [out.detach() for out in outputs] + list(found)


def _close(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> bool:
    if [one.shape for one in found] != [one.shape for one in wanted]:
        return False
    pairs = zip(found, wanted, strict=True)
    return all(distance([one], [other]) <= _SAME * largest([other]) for one, other in pairs)

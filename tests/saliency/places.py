"""What a unit puts out, sample by sample: for slow plain twins of saliencies that see activations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from secateur.types import Activation, Group, Place
from tests.saliency.cases import Case

NAMES = (  # with a residual sum, branches, a concatenation, a layer run twice, groups, flattened maps
    "resnext",
    "repvgg",
    "residual_over_concat",
    "layer_used_twice",
    "inverted_residual",
    "transposed_conv",
    "flatten_to_fc",
)


def loss(out: Tensor, y: Tensor) -> Tensor:
    """Of any output; different for each sample, and not symmetric."""
    return ((1.0 + y) * (0.3 + out.flatten(1)).sin().sum(1)).mean()


def batch(case: Case, samples: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Labelled samples."""
    parts = [case.inputs(seed + i) for i in range((samples + 1) // 2)]
    return torch.cat(parts)[:samples], torch.arange(samples, dtype=torch.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    """What one unit puts out in one sample, at one place: all its elements."""

    place: int
    writer: str  # the weight whose work is seen
    sample: int
    unit: int
    a: list[float]
    g: list[float]  # of this sample's loss


def outputs(case: Case, group: Group, x: Tensor, y: Tensor, *, first: bool) -> Iterator[Output]:
    """At the first or last place where the work of each producer alone is seen.

    The network runs once a sample. A place that is passed twice is two places.
    """
    chosen: dict[str, Activation] = {}
    for activation in group.activations:
        if activation.writer and not (first and activation.writer in chosen):
            chosen[activation.writer] = activation
    for sample in range(len(x)):
        caught: list[tuple[Activation, Tensor]] = []
        handles = [_catch(case.model, activation, caught) for activation in chosen.values()]
        try:
            value = loss(case.model(x[sample : sample + 1]), y[sample : sample + 1])
        finally:
            for handle in handles:
                handle.remove()
        slopes = torch.autograd.grad(value, [tensor for _, tensor in caught], allow_unused=True)
        for place, ((activation, a), g) in enumerate(zip(caught, slopes, strict=True)):
            slope = torch.zeros_like(a) if g is None else g
            for unit in range(group.size):
                own = [i for i, u in enumerate(activation.unit_of.tolist()) if u == unit]
                if own:
                    elements = [_elements(t, activation.dim, own) for t in (a, slope)]
                    yield Output(place, activation.writer or "", sample, unit, *elements)


def _elements(tensor: Tensor, dim: int, indices: list[int]) -> list[float]:
    return [e for i in indices for e in tensor.select(dim, i).flatten().tolist()]


def _catch(
    model: nn.Module, activation: Activation, caught: list[tuple[Activation, Tensor]]
) -> Any:
    """Note the tensor, and hand on a copy: what overwrites that does not touch ours."""
    module = model.get_submodule(activation.module)

    def note(tensor: Tensor) -> Tensor:
        caught.append((activation, tensor))
        return tensor.clone()

    if activation.place is Place.INPUT:
        return module.register_forward_pre_hook(lambda _, args: (note(args[0]), *args[1:]))
    return module.register_forward_hook(lambda _, args, out: note(out))

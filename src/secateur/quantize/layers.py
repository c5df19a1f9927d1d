"""The layers whose rounding can be calibrated."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from secateur.types.layers import KINDS, Layer, alone, computes_otherwise


def layers_of(model: nn.Module, weights: Iterable[str]) -> tuple[dict[str, Layer], dict[str, str]]:
    """Weight → the layer that multiplies by it; and of the other weights, why there is none."""
    found: dict[str, Layer] = {}
    left: dict[str, str] = {}
    for name in weights:
        path, _, attribute = name.rpartition(".")
        owner = model.get_submodule(path)
        kind = type(owner).__name__
        if attribute != "weight" or not isinstance(owner, KINDS):
            left[name] = (
                f"it is the {attribute} of a {kind}, neither a Linear layer nor a convolution"
            )
        elif computes_otherwise(owner):
            left[name] = f"{kind} computes in its own way"
        elif not alone(model, owner.weight):
            left[name] = "several layers share it"
        else:
            found[name] = owner
    return found, left

"""Run a network on an example and see its output as a flat list of tensors."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn


def run(model: nn.Module, example: Any) -> Any:
    """One forward pass without gradients: a tuple is positional, a dict is keywords."""
    with torch.no_grad():
        if isinstance(example, dict):
            return model(**example)
        if isinstance(example, tuple):
            return model(*example)
        return model(example)


def tensors(value: Any) -> list[Tensor]:
    """Every tensor of a nest of tuples, lists, dicts and dataclasses, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return [tensor for entry in value.values() for tensor in tensors(entry)]
    if isinstance(value, tuple | list):
        return [tensor for entry in value for tensor in tensors(entry)]
    if dataclasses.is_dataclass(value):
        return [t for f in dataclasses.fields(value) for t in tensors(getattr(value, f.name))]
    return []


def floats(value: Any) -> list[Tensor]:
    """The same as real floating point tensors, so that all can be compared by difference."""
    found = [torch.view_as_real(t) if t.is_complex() else t for t in tensors(value)]
    return [t if t.is_floating_point() else t.double() for t in found]


def difference(left: list[Tensor], right: list[Tensor], scale: list[Tensor]) -> float:
    """Largest difference relative to the largest value of `scale`; infinite where shapes differ."""
    if [t.shape for t in left] != [t.shape for t in right]:
        return float("inf")
    worst = 0.0
    for a, b, s in zip(left, right, scale, strict=True):
        if a.numel() == 0:
            continue
        if not bool(a.isfinite().all() & b.isfinite().all()):
            return float("inf")
        worst = max(worst, float((a - b).abs().max()) / max(float(s.abs().max()), 1e-300))
    return worst

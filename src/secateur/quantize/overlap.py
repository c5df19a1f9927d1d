"""Weights that lie in the same memory: to write one would change the other."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor

from secateur.errors import ModelError


def refuse_overlap(weights: Mapping[str, Tensor]) -> None:
    """Ask for weights each of whose numbers has a place of its own.

    Raises:
        ModelError: two weights share memory, or one is expanded: then no codes hold for both.
    """
    sharing: dict[int, list[str]] = {}
    for name, tensor in weights.items():
        sharing.setdefault(tensor.untyped_storage().data_ptr(), []).append(name)
    for names in sharing.values():
        if len(names) == 1 and weights[names[0]].is_contiguous():
            continue
        for name in names:
            if _places(weights[name]).unique().numel() < weights[name].numel():
                raise ModelError(
                    "holds the same number in several places", where=name, hint="contiguous()"
                )
        _disjoint({name: _places(weights[name]) for name in names})


def _disjoint(places: Mapping[str, Tensor]) -> None:
    """Raise `ModelError` where a place of one weight is one of another, too."""
    taken = torch.cat(list(places.values())).unique(return_counts=True)
    twice = taken[0][taken[1] > 1]
    both = [name for name, of in places.items() if bool(torch.isin(of, twice).any())]
    for one, other in pairwise(both):
        raise ModelError(
            f"shares memory with {one}",
            where=other,
            hint="one parameter, registered twice, or clone() for each its own",
        )


def _places(tensor: Tensor) -> Tensor:
    """The first byte of each number, from the storage's begin; int64 (n,), on the CPU."""
    found = torch.tensor([tensor.storage_offset()])
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        found = (found.unsqueeze(1) + torch.arange(size) * stride).flatten()
    return found * tensor.element_size()

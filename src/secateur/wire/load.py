"""From a bundle to a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from secateur.errors import FileError, PlanError
from secateur.mask.carve import carve
from secateur.mask.check import named_tensors
from secateur.mask.cut import Cut
from secateur.mask.modules import name_left
from secateur.wire.aligned import Older
from secateur.wire.header import Header
from secateur.wire.read import base_of, opened

_HINT = "is it the network that was packed?"


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """What came out of a bundle.

    Attributes:
        network: in eval mode.
        model: the MODEL text of the dense network; "" where there is none.
        cut: what led to the network from the dense one.
        record: what else the bundle tells.
    """

    network: nn.Module
    model: str
    cut: Cut
    record: bytes


def load(
    path: str | Path, network: Callable[[Header], nn.Module], bases: Sequence[str | Path] = ()
) -> Loaded:
    """The network of a bundle, bit for bit what was packed, without tracing.

    Nothing is allocated for a tensor before its name, shape and dtype were found in the network.

    Args:
        network: given the header, the dense network, or one of the very shapes that the bundle has.
            It is not changed.
        bases: what a difference is to; see `read.stored`.

    Raises:
        FileError: the bundle is missing, truncated or damaged, is of another network, or is a
            difference to another base.
        ModelError: the network cannot be copied.
        MissingExtraError: `constriction` is not installed.
    """
    path = Path(path)
    with opened(path) as bundle:
        header = bundle.header
        fresh = network(header)
        tensors = named_tensors(fresh)
        as_packed = _fits(header, tensors, Cut()) is None
        cut = bundle.cut(bundle.plausible if as_packed else _most(fresh, tensors))
        differs = None if as_packed else _fits(header, tensors, cut)
        if differs is not None:
            raise FileError(differs, where=str(path), hint=_HINT)
        older = Older(base_of(bundle, bases), cut)
        try:
            small = carve(fresh, Cut() if as_packed else cut).eval()
        except PlanError as error:
            raise FileError(f"{error.what} {error.where}", where=str(path), hint=_HINT) from error
        own = named_tensors(small)
        if _fits(header, own, Cut()) is not None:
            raise FileError("cuts the network otherwise than it says", where=str(path), hint=_HINT)
        with torch.no_grad():
            for name, tensor in bundle.tensors(older):
                own[name].copy_(tensor)
        record, _ = bundle.end()
    return Loaded(small, header.model, cut, record)


def _most(network: nn.Module, tensors: dict[str, Tensor]) -> int:
    """How many indices there are to be cut: those of all dims, and of all lists of modules."""
    indices = sum(sum(tensor.shape) for tensor in tensors.values())
    return indices + sum(len(m) for m in network.modules() if isinstance(m, nn.ModuleList))


def _fits(header: Header, tensors: dict[str, Tensor], cut: Cut) -> str | None:
    """What keeps the cut network from having the tensors of the bundle; None where nothing does."""
    wanted = {entry.name: entry for entry in header.entries}
    left: dict[str, tuple[Tensor, str]] = {}
    for dense, tensor in tensors.items():
        name = name_left(cut.lists, dense)
        if name is not None:
            left[name] = tensor, dense
    if left.keys() != wanted.keys():
        return f"network and bundle differ in {min(left.keys() ^ wanted.keys())}"
    for name, (tensor, dense) in left.items():
        shape = list(tensor.shape)
        for dim, stay in cut.kept.get(dense, {}).items():
            if dim >= len(shape) or shape[dim] != stay.numel():
                return f"{dense} is {tuple(tensor.shape)} in the network, and was cut as something else"
            shape[dim] = int(stay.sum())
        entry = wanted[name]
        if entry.shape != tuple(shape) or entry.dtype != tensor.dtype:
            return (
                f"{name} is {entry.dtype} {entry.shape} in the bundle,"
                f" {tensor.dtype} {tuple(shape)} in the network"
            )
    return None

"""Sums over a large tensor for each index of one dim, with as few looks at it as can be."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Tensor

_BYTE = 255  # the most that a count in one byte can hold


def rows(tensor: Tensor, dim: int) -> Tensor:
    """(first dim, size of `dim`, everything else): a view where the layout allows one."""
    moved = tensor.movedim(dim, 1)
    return moved.flatten(2) if tensor.dim() > 2 else moved.unsqueeze(-1)


def sums(tensor: Tensor, dim: int) -> Tensor:
    """Sums over all dims but the first and `dim`, (first dim, size of `dim`), float64.

    Where `dim` is the first one, there is no other: (1, size of `dim`).
    """
    return _sums(tensor, dim, _others(tensor, dim)).double()


def sizes(parts: Sequence[Tensor], dim: int, wanted: Collection[str]) -> dict[str, Tensor]:
    """Sum of |a| ("absolute"), and how many a are not zero ("others"), (size of `dim`,), float64.

    Args:
        parts: the tensor in pieces along its first dim, small enough for the processor's cache:
            all that is wanted of a piece is made while it is there.
        dim: the dim whose indices are told apart.
        wanted: one of the two words, or both.
    """
    rest, signed = _others(parts[0], dim), False
    absolute: list[Tensor] = []
    counted = _Counted(parts[0], dim) if "others" in wanted else None
    for part in parts:
        if "absolute" in wanted:
            signed = signed or not _no_negative(part)
            absolute.append(_sums(part.abs() if signed else part, dim, rest))
        if counted is not None:
            counted.add(part)
    found = {} if counted is None else {"others": counted.total()}
    return found | ({"absolute": _cat(absolute).double().sum(0)} if absolute else {})


def dots(left: Tensor, right: Tensor, dim: int) -> Tensor:
    """Scalar products over all dims but the first and `dim`, (first dim, size of `dim`), float64."""
    left, right = rows(left, dim), rows(right, dim)
    found: Tensor
    if left.device.type != "cpu" or left.requires_grad or right.requires_grad:
        found = torch.linalg.vecdot(left, right)
    elif not left.stride(-1) == right.stride(-1) == 1:  # as where the channels are last
        found = (left * right).sum(-1)
    else:  # torch writes all products down before it sums them
        found = torch.from_numpy(np.einsum("...i,...i->...", left.numpy(), right.numpy()))
    return found.double()


class _Counted:
    """How many elements are not zero for each index of a dim.

    Samples are counted first, position by position, in single bytes: a processor adds many of them at
    once. Before a byte can overflow the positions are added up.
    """

    def __init__(self, like: Tensor, dim: int) -> None:
        self._dim, self._rest = dim, _others(like, dim)
        self._total = torch.zeros(like.shape[dim], dtype=torch.int64, device=like.device)
        self._bytes: Tensor | None = None
        self._samples = 0

    def add(self, part: Tensor) -> None:
        """Count one more piece."""
        if part.device.type != "cpu" or self._dim == 0:
            self._total += _sums(part != 0, self._dim, self._rest).sum(0)
            return
        for some in part.split(_BYTE) if len(part) > _BYTE else [part]:
            if self._samples + len(some) > _BYTE:
                self._flush()
            # numpy compares, and adds up bytes, several times as fast as torch
            differ = np.not_equal(some.detach().numpy(), 0).view(np.uint8)
            counts = torch.from_numpy(np.add.reduce(differ, axis=0, dtype=np.uint8))
            self._bytes = counts if self._bytes is None else self._bytes.add_(counts)
            self._samples += len(some)

    def total(self) -> Tensor:
        """(size of the dim,), float64."""
        self._flush()
        return self._total.double()

    def _flush(self) -> None:
        if self._bytes is not None:
            self._total += _sums(self._bytes[None], self._dim, self._rest)[0]
        self._bytes, self._samples = None, 0


def _others(tensor: Tensor, dim: int) -> list[int]:
    """All dims but the first and this one."""
    return [d for d in range(1, tensor.dim()) if d != dim % tensor.dim()]


def _sums(tensor: Tensor, dim: int, rest: list[int]) -> Tensor:
    """Sums over `rest`, (first dim, size of `dim`); (1, size) where `dim` is the first one."""
    if dim == 0:
        return tensor.reshape(len(tensor), -1).sum(1)[None]
    return tensor.sum(rest) if rest else tensor


def _cat(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _no_negative(values: Tensor) -> bool:
    """Whether each is its own size, as behind a ReLU: quicker to see than to take the size of all."""
    if values.device.type != "cpu" or values.numel() == 0:
        return False
    return bool(values.detach().numpy().min() >= 0)  # torch would copy where the channels are last

"""One tensor as a block: which units are not zero, or have changed, and the values of those."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from secateur.types.grid import Ints
from secateur.wire import positions, values
from secateur.wire.page import Leaf, Page
from secateur.wire.positions import Bools, index_bits

_BLOCKS = (2, 4, 8, 16, 32)  # lengths of rows that patterns as 2:4 have


class Form(enum.IntEnum):
    """What a block holds."""

    WHOLE = 0  # all that is not zero
    SAME = 1  # nothing: the tensor is the base's
    CHANGED = 2  # what is not as in the base


def put_whole(page: Page, tensor: Tensor) -> str:
    """Write a tensor by itself; says how."""
    page.parameters.number(Form.WHOLE)
    return _put(page, tensor, _differs(tensor, None))


def put_same(page: Page) -> str:
    """Write that a tensor is the base's."""
    page.parameters.number(Form.SAME)
    return "unchanged"


def put_changed(page: Page, tensor: Tensor, base: Tensor) -> str:
    """Write how a tensor differs from the base's, which has its shape and dtype."""
    page.parameters.number(Form.CHANGED)
    return f"changes, {_put(page, tensor, _differs(tensor, base))}"


def is_same(tensor: Tensor, base: Tensor) -> bool:
    """Whether two tensors of one shape and dtype agree bit for bit."""
    return not bool(_differs(tensor, base).any())


def take(leaf: Leaf, shape: Sequence[int], dtype: torch.dtype, base: Tensor | None) -> Tensor:
    """The tensor that a block holds.

    Args:
        base: the base's, of this shape and dtype, where there is one.

    Raises:
        ValueError: the block contradicts itself or the shape.
    """
    form = Form(leaf.parameters.number())
    if form is Form.WHOLE:
        start = torch.zeros(shape, dtype=dtype)
    elif base is None:
        raise ValueError("a block leans on a base that has no such tensor")
    else:
        start = base.clone()
    if form is not Form.SAME:
        _fill(leaf, _plain(start))
    leaf.end()
    return start


def _put(page: Page, tensor: Tensor, live: Bools) -> str:
    """Write the units that hold all of `live`, bool of the tensor's shape, and their values."""
    tensor, shape = _plain(tensor), tuple(tensor.shape)
    leading = _leading(live, tensor.element_size())
    units = None if leading == 0 else np.asarray(live.reshape(*shape[:leading], -1).any(-1))
    page.parameters.number(leading)
    way = ""
    if units is not None:
        widths = [math.prod(shape[d:leading]) for d in range(1, leading)]
        way = f" at {positions.put(page, units.reshape(-1), [*widths, *_BLOCKS]).name.lower()}"
    rows = tensor.detach().cpu().reshape(_split(shape, leading))
    chosen = rows if units is None else rows[torch.from_numpy(units.reshape(-1))]
    how = values.put(page, chosen.reshape(-1), _counts(units, shape), _among(shape))
    return how + way


def _fill(leaf: Leaf, start: Tensor) -> None:
    """Set the units that a block names to the values that it holds, in place."""
    shape = tuple(start.shape)
    leading = leaf.parameters.number()
    if leading > len(shape):
        raise ValueError(f"{leading} leading dims of {len(shape)}")
    split = _split(shape, leading)
    units = None
    if leading:
        units = positions.take(leaf, split[0]).reshape(shape[:leading])
    found = values.take(leaf, _counts(units, shape), start.dtype, _among(shape))
    rows = start.view(split)
    if units is None:
        rows[:] = found.view(split)
    else:
        chosen = torch.from_numpy(units.reshape(-1))
        rows[chosen] = found.view(int(chosen.sum()), split[1])


def _differs(tensor: Tensor, base: Tensor | None) -> Bools:
    """Where the bits are not those of the base, or of zero: bool of the tensor's shape."""
    size = tensor.element_size()
    kind = np.dtype(f"<u{min(size, 8)}")
    flat, other = (
        None if t is None else t.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        for t in (tensor, base)
    )
    if flat is None or not flat.size:
        return np.zeros(tuple(tensor.shape), np.bool_)
    found = flat.view(kind) != (0 if other is None else other.view(kind))
    if size > 8:
        found = found.reshape(-1, size // 8).any(1)
    differs: Bools = found.reshape(tuple(tensor.shape))
    return differs


def _leading(live: Bools, size: int) -> int:
    """How many leading dims the units run over that it costs least to name; 0: name none.

    Kernels of a convolution have two, single weights all. What is not live inside a named unit costs
    about the entropy of saying so in every byte of the value.
    """
    if live.all() or not live.size:
        return 0
    best, found = math.inf, 0
    alive = int(np.count_nonzero(live))
    for leading in range(live.ndim + 1):
        units = live.reshape(*live.shape[:leading], -1).any(-1)
        count = int(np.count_nonzero(units))
        held = count * (live.size // units.size)
        inside = index_bits(held, alive) * min(size, 4)
        named = index_bits(units.size, count) + 16 if leading else 0.0
        if inside + named < best:
            best, found = inside + named, leading
    return found


def _plain(tensor: Tensor) -> Tensor:
    """Floats of eight bits as bytes: torch can hardly do anything with them."""
    eight = tensor.is_floating_point() and tensor.element_size() == 1
    return tensor.view(torch.uint8) if eight else tensor


def _split(shape: tuple[int, ...], leading: int) -> tuple[int, int]:
    """Units, and numbers of each."""
    return math.prod(shape[:leading]), math.prod(shape[leading:])


def _counts(units: Bools | None, shape: tuple[int, ...]) -> Ints:
    """How many values each index of the first dim has; of a vector, all together."""
    if len(shape) < 2:
        total = math.prod(shape) if units is None else int(np.count_nonzero(units))
        return np.array([total])
    if units is None:
        return np.full(shape[0], math.prod(shape[1:]))
    each = units.reshape(shape[0], -1).sum(1) if units.size else np.zeros(shape[0], np.int64)
    return each.astype(np.int64) * math.prod(shape[units.ndim :])


def _among(shape: tuple[int, ...]) -> str:
    return "weights" if len(shape) > 1 else "vectors"

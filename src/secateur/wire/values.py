"""Numbers in a row: as codes and scales where they lie on a grid, else as planes of bytes."""

from __future__ import annotations

import enum
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from secateur.types.grid import LARGEST, Grid, Ints, channels, find
from secateur.wire import chains
from secateur.wire.adaptive import Kind
from secateur.wire.page import Leaf, Page
from secateur.wire.planes import Bytes, join, split

_BYTE = 256
_SPAN = 20  # parts of an alphabet of codes; in one of them codes are about equally frequent
_EIGHT = ("float32", "bfloat16", "scales")  # floats whose exponents have eight bits: a plane
_USUAL = (112, 136)  # of these exponents
_SAMPLE = 8192  # numbers that tell whether a plane is noise
_EVEN = 1.1  # times as many equal pairs as in evenly spread bytes: 7.86 bits a byte
_TEACHES = 4096  # so small, a plane teaches the next ones even where coding it does not pay
_NOISE = 0.99  # of eight bits: what is no smaller stays as it is


class Form(enum.IntEnum):
    """How numbers are written."""

    PLANES = 0
    CODES = 1


class Plane(enum.IntEnum):
    """How a plane of bytes is written."""

    PLAIN = 0
    CODED = 1
    CONSTANT = 2


def put(page: Page, values: Tensor, counts: Ints, among: str) -> str:
    """Write values (n,); says how: "float32", "8 bits", "signs" ...

    Args:
        counts: how many of them each channel of the tensor has.
        among: what kind of tensor they are from: values of one kind teach each other.
    """
    name = str(values.dtype).removeprefix("torch.")
    if not values.numel():
        return name
    grid = find(values, counts)
    page.parameters.number(Form.PLANES if grid is None else Form.CODES)
    if grid is None:
        _put_planes(page, split(values), f"{name} {among}")
        return name
    page.parameters.number(grid.largest)
    minus = bool((grid.symbols > 2 * grid.largest).any())
    kind = _codes(grid.largest, minus)
    coded, steps = page.weigh(grid.symbols, kind), None
    if chains.fits(counts, kind.size):
        cost, steps = chains.weigh(grid.symbols, counts, kind.size)
        steps = steps if cost < coded.bits else None
    page.parameters.number((grid.scales.size > 1) + 2 * minus + 4 * (steps is not None))
    _put_planes(page, split(torch.from_numpy(grid.scales)), "scales")
    if steps is None:
        page.put(coded)
    else:
        chains.put(page.coded, steps)
    return _bits(grid)


def take(leaf: Leaf, counts: Ints, dtype: torch.dtype, among: str) -> Tensor:
    """Inverse of `put`, with the same `counts` and `among`: values (n,).

    Raises:
        ValueError: the block says something else.
    """
    count = int(counts.sum())
    if not count:
        return torch.empty(0, dtype=dtype)
    if Form(leaf.parameters.number()) is Form.PLANES:
        name = str(dtype).removeprefix("torch.")
        return join(_take_planes(leaf, count, dtype.itemsize, f"{name} {among}"), dtype)
    largest, flags = leaf.parameters.number(), leaf.parameters.number()
    if not 1 <= largest <= LARGEST or flags > 7 or not dtype.is_floating_point:
        raise ValueError(f"codes up to {largest} in {dtype}")
    several, minus = bool(flags & 1), bool(flags & 2)
    planes = _take_planes(leaf, counts.size if several else 1, 4, "scales")
    scales: NDArray[np.float32] = join(planes, torch.float32).numpy()
    if not (np.isfinite(scales).all() and (scales >= 0).all()):
        raise ValueError("a scale is not finite, or below 0")
    kind = _codes(largest, minus)
    if flags & 4 and not chains.fits(counts, kind.size):
        raise ValueError(f"{kind.size} symbols in {counts.size} channels are no chains")
    symbols = chains.take(leaf.coded, counts, kind.size) if flags & 4 else leaf.take(count, kind)[0]
    grid = Grid(symbols, scales, largest)
    return grid.values(channels(counts) if several else None, dtype)


def _bits(grid: Grid) -> str:
    """How many bits a code needs, as quantisers count them; "signs" where it is +1 or -1, never zero.

    Zeros that positions leave out are no codes: of two bits, signs may be what is left.
    """
    if grid.largest > 1:
        return "4 bits" if grid.largest <= 7 else "8 bits"
    signs = (grid.symbols == 0) | (grid.symbols == 2)
    return "signs" if signs.all() else "2 bits"


def _codes(largest: int, minus: bool) -> Kind:
    """Codes are numbers: those beside each other are about as frequent, where there are many.

    Args:
        minus: whether there is a zero with a minus sign, behind all others.
    """
    size = 2 * largest + 1 + minus
    return Kind("codes", 0, size, size // _SPAN)


@cache
def _kinds(name: str, size: int) -> tuple[Kind, ...]:
    """Of the planes: bytes tell nothing about their neighbours; exponents are those of 2^-15 to 2^8."""
    exponents = size - 1 if name.partition(" ")[0] in _EIGHT else size
    usual = [_USUAL if number == exponents else (0, 0) for number in range(size)]
    return tuple(Kind(name, number, _BYTE, 0, *usual[number]) for number in range(size))


def _put_planes(page: Page, planes: Bytes, name: str) -> None:
    kinds = _kinds(name, len(planes))
    constant = (planes == planes[:, :1]).all(1)
    tried = np.flatnonzero(~constant)
    if tried.size:
        before = page.memory.seen([kinds[number] for number in tried])
        tried = tried[~_is_noise(planes[tried], before)]
    weighed = []
    if tried.size:
        weighed = page.weigh_all(list(planes[tried]), [kinds[number] for number in tried])
    coded = dict(zip(tried.tolist(), weighed, strict=True))
    for number, plane in enumerate(planes):
        if constant[number]:
            page.parameters.number(Plane.CONSTANT)
            page.parameters.number(int(plane[0]))
        elif number in coded and coded[number].bits < _NOISE * 8 * plane.size:
            page.parameters.number(Plane.CODED)
            page.put(coded[number])
        else:
            page.parameters.number(Plane.PLAIN)
            page.plain += plane.tobytes()
            if plane.size <= _TEACHES:
                page.saw(plane, kinds[number])


def _take_planes(leaf: Leaf, count: int, size: int, name: str) -> Bytes:
    """The planes (size, count)."""
    planes, coded = np.empty((size, count), np.uint8), []
    for number, (plane, kind) in enumerate(zip(planes, _kinds(name, size), strict=True)):
        match Plane(leaf.parameters.number()):
            case Plane.PLAIN:
                plane[:] = np.frombuffer(leaf.plain.raw(count), np.uint8)
                if count <= _TEACHES:
                    leaf.saw(plane, kind)
            case Plane.CODED:
                coded.append(number)
            case Plane.CONSTANT:
                byte = leaf.parameters.number()
                if byte >= _BYTE:
                    raise ValueError(f"{byte} is no byte")
                plane[:] = byte
    if coded:
        planes[coded] = leaf.take(count, *[_kinds(name, size)[number] for number in coded])
    return planes


def _is_noise(planes: Bytes, before: Ints) -> NDArray[np.bool_]:
    """Of planes, whether one and what its kind showed before look so random that it need not be tried.

    Of bytes that are evenly spread, one pair in 256 is equal; this is told from few of them already.
    """
    sample = planes[:, :: max(1, planes.shape[1] // _SAMPLE)]
    seen = before + [np.bincount(plane, minlength=_BYTE) for plane in sample]
    count = seen.sum(1)
    equal = (seen * (seen - 1)).sum(1) * float(_BYTE)
    noise: NDArray[np.bool_] = (count >= _BYTE) & (equal < _EVEN * count * (count - 1))
    return noise

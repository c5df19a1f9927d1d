"""Frequencies that are learned from the symbols before: nothing about them is sent.

Symbols are coded in chunks, each with the frequencies that all chunks before it suggest; so does the
decoder, which knows them by then. What one tensor showed is where the next one of its kind begins. All
numbers are whole, so that every machine finds the same. `docs/format.md` has the formulas.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from secateur.wire.entropy import TOTAL, Decoder, Encoder, Ints, Symbols

_ONE = 256  # the weight of one symbol that was seen
_PRIOR = 64  # symbols that everything seen in other tensors counts for
_FIRST, _GROWTH = 64, 2  # a chunk has 64 symbols, or a quarter of what came before
_MOST = 1 << 30  # symbols that are counted at most
_SMOOTH = 32  # symbols of an alphabet of one that the average over neighbours counts for


class Kind(NamedTuple):
    """What symbols are.

    Attributes:
        name, number: of the kind.
        size: of the alphabet, at most 256.
        reach: so many neighbours on either side are expected to be as frequent; 0: they tell nothing.
        first, behind: symbols from `first` and before `behind` count as seen once to begin with.
    """

    name: str
    number: int
    size: int
    reach: int = 0
    first: int = 0
    behind: int = 0


class Memory:
    """How often each symbol was seen, kind by kind, in all tensors before."""

    def __init__(self) -> None:
        self._seen: dict[Kind, Ints] = {}

    def prior(self, kinds: Sequence[Kind]) -> Ints:
        """The weight (kinds, m) of each symbol before the first of a tensor is seen."""
        seen = self.seen(kinds)
        prior: Ints = seen * (_ONE * _PRIOR) // np.maximum(1, seen.sum(1, keepdims=True))
        return prior

    def seen(self, kinds: Sequence[Kind]) -> Ints:
        """How often each symbol was seen, (kinds, m), of kinds of one size."""
        return np.array([self._of(kind) for kind in kinds])

    def add(self, kind: Kind, counts: Ints) -> None:
        """Note what a tensor showed."""
        self._seen[kind] = _bounded(self._of(kind) + counts)

    def _of(self, kind: Kind) -> Ints:
        found = self._seen.get(kind)
        if found is None:
            found = np.zeros(kind.size, np.int64)
            found[kind.first : kind.behind] = 1
        return found


def _bounded(counts: Ints) -> Ints:
    """Halved until they add up to at most 2^30, but none to nothing: products stay in 63 bits."""
    if int(counts.sum()) <= _MOST:
        return counts
    while (over := counts.sum(-1, keepdims=True) > _MOST).any():
        counts = np.where(over, counts - counts // 2, counts)
    return counts


def chunks(length: int) -> Iterator[tuple[int, int]]:
    """Where each chunk begins and ends."""
    begin = 0
    while begin < length:
        end = min(length, begin + max(_FIRST, begin >> _GROWTH))
        yield begin, end
        begin = end


def frequencies(prior: Ints, own: Ints, reach: int) -> Ints:
    """What to expect of each symbol: int64 (..., m) from 1, of sum 2^24.

    Args:
        prior: weights (..., m) from other tensors.
        own: how often each symbol was seen in this one, (..., m).
        reach: of the kind.
    """
    size = own.shape[-1]
    seen = _bounded(own) * _ONE + prior
    weight = seen + max(1, _ONE // size)
    if reach:
        weight += _around(seen, reach)
    found: Ints = 1 + weight * (TOTAL - size) // weight.sum(-1, keepdims=True)
    if found.ndim == 1:  # as below, in less time
        found[found.argmax()] += TOTAL - found.sum()
        return found
    rows = found.reshape(-1, size)
    rows[np.arange(len(rows)), rows.argmax(1)] += TOTAL - rows.sum(1)
    return found


def _around(seen: Ints, reach: int) -> Ints:
    """What was seen, averaged over neighbours; of a fixed weight, so that it fades as more is seen.

    Nothing where nothing was seen.
    """
    size = seen.shape[-1]
    sums = np.zeros((*seen.shape[:-1], size + 1), np.int64)
    np.cumsum(seen, -1, out=sums[..., 1:])
    begins, ends = _box(size, reach)
    box = sums.take(ends, -1) - sums.take(begins, -1)
    scaled: Ints = box * (_ONE * _SMOOTH * size) // np.maximum(1, box.sum(-1, keepdims=True))
    return scaled


@cache
def _box(size: int, reach: int) -> tuple[Ints, Ints]:
    """Where the neighbours of each symbol begin and end."""
    place = np.arange(size)
    return np.maximum(0, place - reach), np.minimum(size, place + reach + 1)


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """Symbols of one kind, before it is decided whether they are coded.

    Attributes:
        counts: how often each symbol occurs, (m,).
        bits: what they cost.
        steps: chunks of them, and the frequencies (m,) that each is coded with.
    """

    kind: Kind
    counts: Ints
    bits: float
    steps: Sequence[tuple[Symbols, Ints]]

    def put(self, encoder: Encoder) -> None:
        """Code them."""
        for chunk, found in self.steps:
            encoder.put(chunk, found)


def weigh(rows: Sequence[Symbols], kinds: Sequence[Kind], memory: Memory) -> list[Coded]:
    """Rows of equally many symbols, coded; each is of a kind, and all kinds of one size and reach."""
    parts = [[row[begin:end] for begin, end in chunks(row.size)] for row in rows]
    size = kinds[0].size
    each = np.empty((len(rows), len(parts[0]), size), np.int64)
    for row, counts in zip(parts, each, strict=True):
        for part, count in zip(row, counts, strict=True):
            count[:] = np.bincount(part, minlength=size)
    after = each.cumsum(1)
    found = frequencies(memory.prior(kinds)[:, None], after - each, kinds[0].reach)
    bits = (each * (24.0 - np.log2(found))).sum((1, 2)).tolist()
    steps = (list(zip(*row, strict=True)) for row in zip(parts, found, strict=True))
    return list(map(Coded, kinds, each.sum(1), bits, steps))


def take(
    decoder: Decoder, count: int, kinds: Sequence[Kind], memory: Memory
) -> tuple[NDArray[np.uint8], Ints]:
    """The next symbols (kinds, count), as `weigh` takes them, and how often each occurs (kinds, m)."""
    prior, reach = memory.prior(kinds), kinds[0].reach
    own, found = np.zeros_like(prior), np.empty((len(kinds), count), np.uint8)
    first = frequencies(prior, own, reach)
    for row, symbols in enumerate(found):
        for begin, end in chunks(count):
            expected = frequencies(prior[row], own[row], reach) if begin else first[row]
            symbols[begin:end] = decoder.take(end - begin, expected)
            own[row] += np.bincount(symbols[begin:end], minlength=prior.shape[1])
    return found, own

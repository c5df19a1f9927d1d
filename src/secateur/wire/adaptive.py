"""Frequencies that are learned from the symbols before: nothing about them is sent.

Symbols are coded in chunks, each with the frequencies that all chunks before it suggest; so does the
decoder, which knows them by then. What one tensor showed is where the next one of its kind begins. All
numbers are whole, so that every machine finds the same. `docs/format.md` has the formulas.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from secateur.wire.entropy import TOTAL, Decoder, Encoder, Ints

_ONE = 256  # the weight of one symbol that was seen
_PRIOR = 64  # symbols that everything seen in other tensors counts for
_FIRST, _GROWTH = 64, 2  # a chunk has 64 symbols, or a quarter of what came before
_SMOOTH = 32  # symbols of an alphabet of one that the average over neighbours counts for


class Kind(NamedTuple):
    """What symbols are.

    Attributes:
        name, number: of the kind.
        size: of the alphabet.
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

    def prior(self, kind: Kind) -> Ints:
        """The weight (m,) of each symbol before the first of a tensor is seen."""
        seen = self.seen(kind)
        return seen * (_ONE * _PRIOR) // max(1, int(seen.sum()))

    def seen(self, kind: Kind) -> Ints:
        """How often each symbol was seen, (m,)."""
        found = self._seen.get(kind)
        if found is None:
            found = np.zeros(kind.size, np.int64)
            found[kind.first : kind.behind] = 1
        return found

    def add(self, kind: Kind, counts: Ints) -> None:
        """Note what a tensor showed."""
        self._seen[kind] = _bounded(self.seen(kind) + counts)


def _bounded(counts: Ints) -> Ints:
    """Halved until they add up to at most 2^30, but none to nothing: products stay in 63 bits."""
    while int(counts.sum()) > 1 << 30:
        counts = counts - counts // 2
    return counts


def chunks(length: int) -> Iterator[tuple[int, int]]:
    """Where each chunk begins and ends."""
    begin = 0
    while begin < length:
        end = min(length, begin + max(_FIRST, begin >> _GROWTH))
        yield begin, end
        begin = end


def frequencies(prior: Ints, own: Ints, reach: int) -> Ints:
    """What to expect of each symbol: int64 (m,) from 1, of sum 2^24.

    Args:
        prior: weights (m,) from other tensors.
        own: how often each symbol was seen in this one, (m,).
        reach: of the kind.
    """
    size = prior.size
    seen = _bounded(own) * _ONE + prior
    weight = seen + max(1, _ONE // size)
    if reach and seen.any():
        weight += _around(seen, reach)
    found = 1 + weight * (TOTAL - size) // int(weight.sum())
    found[int(found.argmax())] += TOTAL - int(found.sum())
    return found


def _around(seen: Ints, reach: int) -> Ints:
    """What was seen, averaged over neighbours; of a fixed weight, so that it fades as more is seen."""
    size = seen.size
    sums = np.concatenate([[0], np.cumsum(seen)])
    place = np.arange(size)
    box = sums[np.minimum(size, place + reach + 1)] - sums[np.maximum(0, place - reach)]
    scaled: Ints = box * (_ONE * _SMOOTH * size) // int(box.sum())
    return scaled


class Coded:
    """Symbols of one kind, and what they cost, before it is decided whether they are coded."""

    def __init__(self, symbols: NDArray[np.int32], kind: Kind, memory: Memory) -> None:
        size, prior = kind.size, memory.prior(kind)
        own, self._steps, self.bits = np.zeros(size, np.int64), [], 0.0
        self.kind, self.counts = kind, own
        for begin, end in chunks(symbols.size):
            chunk = symbols[begin:end]
            found, here = frequencies(prior, own, kind.reach), np.bincount(chunk, minlength=size)
            self._steps.append((chunk, found))
            self.bits += float((here * (24.0 - np.log2(found))).sum())
            own += here

    def put(self, encoder: Encoder) -> None:
        """Code them."""
        for symbols, found in self._steps:
            encoder.put(symbols, found)


def take(
    decoder: Decoder, count: int, kind: Kind, memory: Memory
) -> tuple[NDArray[np.int32], Ints]:
    """The next symbols (count,) of a kind, and how often each occurs (m,)."""
    size, prior = kind.size, memory.prior(kind)
    own, found = np.zeros(size, np.int64), np.empty(count, np.int32)
    for begin, end in chunks(count):
        found[begin:end] = decoder.take(end - begin, frequencies(prior, own, kind.reach))
        own += np.bincount(found[begin:end], minlength=size)
    return found, own

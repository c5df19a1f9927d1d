"""Codes of few values, each expected by the one before it in its channel: signs of neighbours agree.

All channels go side by side: the first codes of all, then the second. What is expected after a code is
learned from all codes that followed such a one so far; nothing of it is sent.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from secateur.wire.entropy import TOTAL, Decoder, Encoder, Ints, Symbols

LONGEST = 4096  # codes of a channel
WIDEST = 4  # symbols of an alphabet


class Chains:
    """What follows what.

    Attributes:
        bits: what the codes cost that were seen.
    """

    def __init__(self, size: int) -> None:
        self.bits, self._size = 0.0, size
        self._seen = np.zeros((size + 1, size), np.int64)  # the last row: of the first in a channel

    def expected(self, before: Ints) -> Ints:
        """Frequencies (n, m) of what follows each of the symbols (n,); m stands for none."""
        weight = 2 * self._seen + 1
        found = 1 + weight * (TOTAL - self._size) // weight.sum(1, keepdims=True)
        most = found.argmax(1)
        found[np.arange(len(found)), most] += TOTAL - found.sum(1)
        expected: Ints = found[before]
        return expected

    def saw(self, before: Ints, symbols: Symbols, expected: Ints) -> None:
        """Note which symbols (n,) followed."""
        self.bits += float((24.0 - np.log2(expected[np.arange(symbols.size), symbols])).sum())
        np.add.at(self._seen, (before, symbols), 1)


def fits(counts: Ints, size: int) -> bool:
    """Whether codes may be chained: few values, and channels that are no longer than there are many."""
    return size <= WIDEST and counts.size > 1 and int(counts.max(initial=0)) <= LONGEST


def weigh(symbols: Symbols, counts: Ints, size: int) -> tuple[float, list[tuple[Symbols, Ints]]]:
    """What codes cost as chains, in bits, and what is to be put.

    Args:
        symbols: (n,), channel after channel.
        counts: how many each channel has.
        size: of the alphabet.
    """
    chains, steps = Chains(size), []
    before = np.full(counts.size, size, np.int64)
    for rows, places in _steps(counts):
        here = symbols[places]
        expected = chains.expected(before[rows])
        steps.append((here, expected))
        chains.saw(before[rows], here, expected)
        before[rows] = here
    return chains.bits, steps


def put(encoder: Encoder, steps: list[tuple[Symbols, Ints]]) -> None:
    """Code what was weighed."""
    for here, expected in steps:
        encoder.put(here, expected)


def take(decoder: Decoder, counts: Ints, size: int) -> NDArray[np.uint8]:
    """Inverse of `put`: symbols (n,), channel after channel."""
    chains, symbols = Chains(size), np.empty(int(counts.sum()), np.uint8)
    before = np.full(counts.size, size, np.int64)
    for rows, places in _steps(counts):
        expected = chains.expected(before[rows])
        here = decoder.take(rows.size, expected)
        symbols[places] = here
        chains.saw(before[rows], here, expected)
        before[rows] = here
    return symbols


def _steps(counts: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Channels that have a next code, and where it stands among all."""
    begins = np.cumsum(counts) - counts
    for step in range(int(counts.max(initial=0))):
        rows = np.flatnonzero(counts > step)
        yield rows, begins[rows] + step

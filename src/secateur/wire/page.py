"""One block as it is written and read: its parameters, its plain bytes, its coded symbols."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from secateur.wire import adaptive
from secateur.wire.adaptive import Coded, Kind, Memory
from secateur.wire.entropy import Decoder, Encoder, Ints, Symbols
from secateur.wire.varint import Reader, Writer


class Page:
    """A block that is being written."""

    def __init__(self, memory: Memory) -> None:
        self.memory, self.parameters = memory, Writer()
        self.plain, self.coded = bytearray(), Encoder()
        self._seen: list[tuple[Kind, Ints]] = []

    def weigh(self, symbols: Symbols, kind: Kind) -> Coded:
        """What symbols would cost, coded."""
        return self.weigh_all([symbols], [kind])[0]

    def weigh_all(self, rows: Sequence[Symbols], kinds: Sequence[Kind]) -> list[Coded]:
        """What equally many symbols of each kind would cost."""
        return adaptive.weigh(rows, kinds, self.memory)

    def put(self, coded: Coded) -> None:
        """Code what was weighed."""
        coded.put(self.coded)
        self._seen.append((coded.kind, coded.counts))

    def saw(self, symbols: NDArray[np.uint8], kind: Kind) -> None:
        """Note symbols that stand on the page as they are."""
        self._seen.append((kind, np.bincount(symbols, minlength=kind.size)))

    def finish(self) -> tuple[bytes, bytes]:
        """Parameters, for the header, and content, which follows it."""
        parameters = Writer()
        parameters.number(len(self.plain))
        return bytes(parameters.bytes + self.parameters.bytes), bytes(
            self.plain
        ) + self.coded.finish()

    def remember(self) -> None:
        """Let the pages after this one know what was seen on it: it is the one that is kept."""
        for kind, counts in self._seen:
            self.memory.add(kind, counts)


class Leaf:
    """A block that is being read."""

    def __init__(self, parameters: memoryview, content: memoryview, memory: Memory) -> None:
        self.parameters = Reader(parameters)
        plain, coded = Reader(content), self.parameters.number()
        self.plain, self.coded = Reader(plain.raw(coded)), Decoder(plain.raw(plain.left))
        self._memory, self._seen = memory, list[tuple[Kind, Ints]]()

    def take(self, count: int, *kinds: Kind) -> NDArray[np.uint8]:
        """The next symbols (kinds, count), as many of each kind."""
        symbols, counts = adaptive.take(self.coded, count, kinds, self._memory)
        self._seen.extend(zip(kinds, counts, strict=True))
        return symbols

    def saw(self, symbols: NDArray[np.uint8], kind: Kind) -> None:
        """Note symbols that stand in the block as they are."""
        self._seen.append((kind, np.bincount(symbols, minlength=kind.size)))

    def end(self) -> None:
        """Raise `ValueError` unless all was read; what was seen is remembered."""
        self.parameters.end()
        self.plain.end()
        self.coded.end()
        for kind, counts in self._seen:
            self._memory.add(kind, counts)

"""Asymmetric numeral systems: symbols and their frequencies to bytes, and back.

The coder itself is `constriction`'s (Bamler, "Understanding Entropy Coding With Asymmetric Numeral
Systems", arXiv 2201.01741). Frequencies are whole numbers from 1 that add up to 2^24; handed over as
`frequency - 1`, the coder takes them as they are, so that a file depends on no floating-point rounding.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from secateur.errors import MissingExtraError

TOTAL = 1 << 24
"""What the frequencies of all symbols of an alphabet add up to."""

Ints = NDArray[np.int64]
Symbols = NDArray[np.bool_] | NDArray[np.uint8] | NDArray[np.int32]
_WORD = 4  # bytes


class Encoder:
    """Takes symbols in the order in which they will be read."""

    def __init__(self) -> None:
        _stream()  # said before anything is done, where the extra is missing
        self._steps: list[tuple[Symbols, NDArray[np.float32]]] = []

    def put(self, symbols: Symbols, frequencies: Ints) -> None:
        """Symbols (n,), from 0; their frequencies (m,) for all, or (n, m) for each."""
        if symbols.size:
            self._steps.append((symbols, _given(frequencies)))

    def finish(self) -> bytes:
        """Everything that was put, in bytes that do not end in a zero."""
        stream = _stream()
        coder = stream.stack.AnsCoder()
        for small, given in reversed(self._steps):  # a stack: what is read first is put last
            symbols = small.astype(np.int32, copy=False)
            if given.ndim == 1:
                coder.encode_reverse(symbols, stream.model.Categorical(given, perfect=False))
            else:
                coder.encode_reverse(symbols, stream.model.Categorical(perfect=False), given)
        words: NDArray[np.uint32] = coder.get_compressed()
        return words.astype("<u4").tobytes().rstrip(b"\0")


class Decoder:
    """Gives symbols back; whatever the bytes are, it gives some, and never fails on the way."""

    def __init__(self, content: bytes | memoryview) -> None:
        """Raises `ValueError` for bytes that no encoder ends in."""
        content = bytes(content)
        if content.endswith(b"\0"):
            raise ValueError("coded symbols do not end in a zero")
        padded = content + bytes(-len(content) % _WORD)
        words = np.frombuffer(padded, "<u4").astype(np.uint32)
        self._coder = _stream().stack.AnsCoder(words)

    def take(self, count: int, frequencies: Ints) -> NDArray[np.int32]:
        """The next symbols (count,), int32; frequencies (m,), or (count, m)."""
        if count == 0:
            return np.empty(0, np.int32)
        model, given = _stream().model, _given(frequencies)
        if given.ndim == 1:
            found = self._coder.decode(model.Categorical(given, perfect=False), count)
        else:
            found = self._coder.decode(model.Categorical(perfect=False), given)
        symbols: NDArray[np.int32] = found
        return symbols

    def end(self) -> None:
        """Raise `ValueError` unless nothing but what was taken had been put."""
        if not self._coder.is_empty():
            raise ValueError("coded symbols do not end where they should")


def _given(frequencies: Ints) -> NDArray[np.float32]:
    return np.ascontiguousarray(frequencies - 1, dtype=np.float32)  # exact: below 2^24


@cache
def _stream() -> ModuleType:
    try:
        from constriction import stream
    except ImportError as error:
        raise MissingExtraError(
            f"cannot import constriction, which bundles are coded with: {error}",
            hint="pip install 'secateur[wire]'",
        ) from error
    found: ModuleType = stream
    return found

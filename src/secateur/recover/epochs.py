"""Data that say when an epoch begins and ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from operator import length_hint
from typing import Any


class Epochs:
    """Batches, and somebody who is told when they are read.

    Args:
        begins: called before the first batch of an epoch.
        ends: called after the last; by then the last step has been taken.
    """

    def __init__(
        self, data: Iterable[Any], begins: Callable[[], None], ends: Callable[[], None]
    ) -> None:
        self._data, self._begins, self._ends = data, begins, ends

    def __iter__(self) -> Iterator[Any]:
        self._begins()
        yield from self._data
        self._ends()

    def __length_hint__(self) -> int:
        return length_hint(self._data)

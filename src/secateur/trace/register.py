"""Tables of functions by name, filled by a decorator."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def registrar(table: dict[str, T], kind: str) -> Callable[..., Callable[[T], T]]:
    """A decorator that puts a function into `table` under several names; a name is given once."""

    def named(*names: str) -> Callable[[T], T]:
        def register(function: T) -> T:
            for name in names:
                if name in table:
                    raise ValueError(f"two {kind}s for {name}")
                table[name] = function
            return function

        return register

    return named

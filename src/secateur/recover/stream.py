"""Random numbers of one's own, without touching the caller's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from secateur.types.seed import derive


class Stream:
    """torch's generators as this run left them; active inside `with stream.active():` only."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self._seed = seed
        self._cuda = [device] if device.type == "cuda" else []
        self._states: list[torch.Tensor] = []

    @contextmanager
    def active(self) -> Iterator[None]:
        """Draw from this stream, then put the caller's generators back."""
        with torch.random.fork_rng(devices=self._cuda):
            if self._states:
                torch.set_rng_state(self._states[0])
                for device, state in zip(self._cuda, self._states[1:], strict=True):
                    torch.cuda.set_rng_state(state, device)
            try:
                yield
            finally:
                self._remember()

    def restart(self, epoch: int) -> None:
        """Begin an epoch: what it draws does not depend on the epochs before."""
        with torch.random.fork_rng(devices=self._cuda):
            torch.manual_seed(derive(self._seed, "epoch", epoch))
            self._remember()

    def _remember(self) -> None:
        cuda = [torch.cuda.get_rng_state(device) for device in self._cuda]
        self._states = [torch.get_rng_state(), *cuda]

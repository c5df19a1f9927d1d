"""Losses the fast way: the same choices as the plain way, with less to compute.

What is saved: the network that runs is the shrunk one; a candidate's run begins where its absence
begins to matter, and the layers before return what was recorded; a strategy gives candidates up early.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from secateur.compose.candidates import Candidate
from secateur.compose.losses import Answer, Measured, Question
from secateur.compose.plain_losses import PlainLosses
from secateur.compose.pool import Pool, sample_losses
from secateur.compose.replay.calls import Call, calls_of
from secateur.compose.replay.remaining import Remaining, remaining
from secateur.compose.replay.session import PROBE, Session, laid_out
from secateur.compose.strategy import EarlyStop, Strategy
from secateur.errors import ModelError
from secateur.mask.check import named_tensors
from secateur.types.call import device_of, run
from secateur.types.group import Groups
from secateur.types.loss import Loss

# Two ways to the same number may differ by so much, of max(1, |loss|)
_ROUNDING = {torch.float64: 1e-10, torch.float32: 1e-5}
_COARSE = 1e-2  # half precision


class FastLosses:
    """The same choices as `PlainLosses`.

    A group is first measured both ways, until a candidate of it has moved the losses and both agreed;
    where they do not agree it is measured the plain way ever after, and the answer says so. Close
    calls are decided by the plain way. Networks that mix the samples of a batch, losses that are not a
    mean over samples, and networks whose calls differ from batch to batch are measured the plain way.

    Args:
        strategy: whom to measure on how many samples.
        batch: samples a batch for the plain way.
        piece: samples a batch for the fast way; 0 chooses by the size of what the layers return.
        memory: bytes that may be kept of a run.
    """

    def __init__(
        self,
        model: nn.Module,
        groups: Groups,
        pool: Pool,
        loss: Loss,
        strategy: Strategy | None = None,
        *,
        batch: int = 128,
        piece: int = 0,
        memory: int = 2**30,
    ) -> None:
        self.plainly = PlainLosses(model, groups, pool, loss, batch)
        self.strategy = EarlyStop() if strategy is None else strategy
        self._piece, self._memory = piece, memory
        self._calls: tuple[Call, ...] | None = None
        self._last: tuple[frozenset[str], dict[str, Tensor], Remaining] | None = None

    def __str__(self) -> str:
        return f"FastLosses({self.strategy})"

    @property
    def pool(self) -> int:
        """How many samples there are."""
        return self.plainly.pool

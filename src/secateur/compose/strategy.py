"""Whom to measure on how many samples: all on all, or each only until it cannot win any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from secateur.compose.expected import Expected
from secateur.compose.losses import Measured


class Contest(Protocol):
    """Candidates that can be measured on any samples."""

    @property
    def count(self) -> int:
        """How many candidates there are."""
        ...

    @property
    def present(self) -> Tensor:
        """Losses of the single samples with no candidate removed, float64 (N,)."""
        ...

    @property
    def piece(self) -> int:
        """How many samples are best run at a time."""
        ...

    def losses(self, candidates: Sequence[int], rows: Tensor) -> Tensor:
        """Losses of single samples without each candidate, float64 (candidates, rows).

        To ask for several at once takes no longer than one after the other, and may take less.
        """
        ...

    def value(self, candidate: int, loss: float) -> float:
        """What the candidate's mean loss is worth; the lowest value wins. A rising straight line."""
        ...

    def slack(self, loss: float) -> float:
        """By how much a mean loss may be off through rounding."""
        ...

    def expected(self, candidate: int) -> Expected | None:
        """What earlier steps say of it."""
        ...


class Strategy(Protocol):
    """Decides which candidate is measured on which samples."""

    def settle(self, contest: Contest) -> list[Measured]:
        """One entry for each candidate; at least one is not out."""
        ...


@dataclass(frozen=True, slots=True)
class Everything(Strategy):
    """Every candidate on every sample."""

    def settle(self, contest: Contest) -> list[Measured]:
        """The mean losses."""
        parts = torch.arange(contest.present.numel()).split(contest.piece)
        everybody = range(contest.count)
        losses = torch.cat([contest.losses(everybody, rows) for rows in parts], dim=1)
        return [Measured(mean, losses.shape[1]) for mean in losses.mean(1).tolist()]


@dataclass(frozen=True, slots=True)
class EarlyStop(Strategy):
    """A candidate is out once what it has already lost is more than the best loses in all.

    Exact where no loss is negative: a sum of such losses never falls. The samples that are hardest
    for the present network come first, since few of them carry most of the loss. As soon as a negative
    loss is seen, every candidate is measured on every sample; one that is negative only where it was
    never measured cannot be noticed.
    """

    def settle(self, contest: Contest) -> list[Measured]:
        """All on the hardest samples; then one after the other, the most promising first."""
        total = contest.present.numel()
        parts = hardest_first(contest.present, contest.piece)
        runs = [_Partial() for _ in range(contest.count)]
        least = float("inf")  # the lowest value of a candidate that has seen all samples

        def more(i: int) -> None:
            runs[i] = runs[i].plus(contest.losses([i], parts[runs[i].parts])[0])

        def hopeless(i: int) -> bool:
            mean = runs[i].total / total
            return contest.value(i, mean - contest.slack(mean)) > least

        def never_negative() -> bool:
            return bool((contest.present >= 0).all()) and all(run.lowest >= 0 for run in runs)

        for i, losses in enumerate(contest.losses(range(contest.count), parts[0])):
            runs[i] = runs[i].plus(losses)
        first = [contest.value(i, run.total / total) for i, run in enumerate(runs)]
        for i in sorted(range(contest.count), key=lambda i: (first[i], i)):
            while runs[i].parts < len(parts) and not (hopeless(i) and never_negative()):
                more(i)
            if runs[i].parts == len(parts):
                mean = runs[i].total / total
                least = min(least, contest.value(i, mean + contest.slack(mean)))
        if not never_negative():  # seen too late for those that were given up before
            for i in range(contest.count):
                while runs[i].parts < len(parts):
                    more(i)
        return [Measured(r.total / total, r.samples, r.samples < total) for r in runs]


@dataclass(frozen=True, slots=True)
class _Partial:
    """What a candidate has lost so far."""

    total: float = 0.0
    samples: int = 0
    parts: int = 0
    lowest: float = 0.0  # of single samples

    def plus(self, losses: Tensor) -> _Partial:
        return _Partial(
            self.total + float(losses.sum()),
            self.samples + losses.numel(),
            self.parts + 1,
            min(self.lowest, float(losses.min())),
        )


def hardest_first(present: Tensor, piece: int) -> list[Tensor]:
    """Rows in pieces, the highest losses in the first; inside a piece they ascend."""
    order = present.argsort(descending=True, stable=True)
    return [rows.sort().values for rows in order.split(piece)]

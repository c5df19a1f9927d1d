"""A race: candidates are given up when they can hardly win any more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from secateur.compose.losses import Measured
from secateur.compose.strategy import Contest, EarlyStop, Strategy
from secateur.errors import OptionError

# Samples fall into four strata, the hardest for the present network first, with these shares ...
_STRATA = (1 / 8, 1 / 8, 1 / 4, 1 / 2)
# ... of which so much has been seen after each look.
_LOOKS = (
    (1.0, 3 / 8, 5 / 32, 5 / 64),
    (1.0, 3 / 4, 5 / 16, 5 / 32),
    (1.0, 1.0, 5 / 8, 3 / 16),
    (1.0, 1.0, 1.0, 1 / 2),
)
_FEWEST = 128  # samples; with fewer a look shows too little


@dataclass(frozen=True, slots=True)
class Race(Strategy):
    """A candidate is out once its mean loss is above that of the leader with enough confidence.

    Looks at more and more samples. The samples are put into strata by how hard they are for the
    present network: the hardest are all seen at the first look, of the others a random part. After
    each look the mean difference between a candidate and the leader is estimated from the paired
    differences on what was seen,

        D = sum_h W_h mean_h(d),   var D = sum_h W_h^2 (1 - n_h / N_h) s_h^2 / n_h

    with N_h samples in stratum h, n_h of them seen, and W_h = N_h / N; the candidate is out where
    D > t sqrt(var D). t is the quantile of Student's distribution (degrees of freedom after Welch and
    Satterthwaite) with the error divided among the looks, and in each among the candidates that are
    left (Bonferroni), so that the chance that the true best is given up in a step is at most
    1 - confidence, as far as differences are normal: no more than that is claimed. Whoever is left
    after the last look is measured on all samples. With few samples it is an `EarlyStop`.

    Source: racing, Maron and Moore, Hoeffding Races, NIPS 1993; the estimate is that of stratified
    sampling without replacement, Cochran, Sampling Techniques, 1977, chapter 5.
    """

    confidence: float = 0.99

    def __post_init__(self) -> None:
        if not 0.5 <= self.confidence < 1.0:
            raise OptionError(
                f"confidence={self.confidence!r} decides nothing",
                where="Race",
                hint="0.99 errs in one step of a hundred",
            )

    def settle(self, contest: Contest) -> list[Measured]:
        """Looks until one candidate is left, or everything is seen."""
        if contest.present.numel() < _FEWEST or contest.count == 1:
            return EarlyStop().settle(contest)
        strata = _strata(contest.present)
        error = (1 - self.confidence) / len(_LOOKS)
        runners = [_Runner(contest, i, strata) for i in range(contest.count)]
        alive, seen = list(runners), [0] * len(strata)
        for look in (*_LOOKS, (1.0,) * len(strata)):
            wanted = [_count(share, len(rows)) for share, rows in zip(look, strata, strict=True)]
            fresh = [r[old:new] for r, old, new in zip(strata, seen, wanted, strict=True)]
            pieces = torch.cat(fresh).split(contest.piece)
            numbers = [runner.number for runner in alive]
            losses = torch.cat([contest.losses(numbers, rows) for rows in pieces], dim=1)
            for runner, row in zip(alive, losses, strict=True):
                runner.see(row.split([len(rows) for rows in fresh]))
            seen = wanted
            leader = min(alive, key=lambda runner: (runner.value(), runner.number))
            z = NormalDist().inv_cdf(1 - error / max(1, len(alive) - 1))
            alive = [r for r in alive if r is leader or r.behind(leader) <= r.reach(leader, z)]
            if len(alive) == 1:
                break
        return [Measured(r.loss(), r.samples, r not in alive) for r in runners]


def _strata(present: Tensor) -> list[Tensor]:
    """Rows by hardness; inside a stratum in the order in which they were drawn."""
    order = present.argsort(descending=True, stable=True)
    sizes = [round(share * order.numel()) for share in _STRATA[:-1]]
    sizes.append(order.numel() - sum(sizes))
    return [rows.sort().values for rows in order.split(sizes)]


def _count(share: float, size: int) -> int:
    """How many of a stratum: two at least, since one has no spread."""
    return min(size, max(2, round(share * size)))


class _Runner:
    """One candidate, with what was seen of it."""

    def __init__(self, contest: Contest, number: int, strata: Sequence[Tensor]) -> None:
        self.number = number
        self._contest, self._strata = contest, strata
        self._seen = [torch.empty(0, dtype=torch.float64) for _ in strata]
        start = contest.value(number, 0.0)
        self._slope = contest.value(number, 1.0) - start
        self._present = contest.value(number, float(contest.present.mean()))

    @property
    def samples(self) -> int:
        return sum(losses.numel() for losses in self._seen)

    def see(self, losses: Sequence[Tensor]) -> None:
        """Losses of more samples, stratum by stratum."""
        self._seen = [torch.cat(pair) for pair in zip(self._seen, losses, strict=True)]

    def loss(self) -> float:
        """The mean loss over all samples, estimated."""
        changes = [seen - now for seen, now in zip(self._seen, self._now(), strict=True)]
        return float(self._contest.present.mean()) + self._mean(changes)

    def value(self) -> float:
        """What the candidate is worth, estimated."""
        return self._present + self._mean(self._values())

    def behind(self, leader: _Runner) -> float:
        """By how much the value is above the leader's."""
        return self.value() - leader.value()

    def reach(self, leader: _Runner, z: float) -> float:
        """The least difference in value that chance does not explain.

        Args:
            z: the quantile of the normal distribution at the wanted confidence.
        """
        total, parts = sum(map(len, self._strata)), []
        for rows, mine, other in zip(self._strata, self._values(), leader._values(), strict=True):
            seen, size = mine.numel(), rows.numel()
            if seen < size:
                by_chance = float((mine - other).var()) / seen * (1 - seen / size)
                parts.append(((size / total) ** 2 * by_chance, seen - 1))
        variance = sum(part for part, _ in parts)
        if variance == 0.0:
            return 0.0
        freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
        return student(z, freedom) * math.sqrt(variance)

    def _values(self) -> list[Tensor]:
        """Of single samples, less what the network as it is is worth there."""
        return [self._slope * (s - now) for s, now in zip(self._seen, self._now(), strict=True)]

    def _now(self) -> list[Tensor]:
        pairs = zip(self._strata, self._seen, strict=True)
        return [self._contest.present[rows[: seen.numel()]] for rows, seen in pairs]

    def _mean(self, values: Sequence[Tensor]) -> float:
        total = sum(map(len, self._strata))
        pairs = zip(self._strata, values, strict=True)
        return sum(len(rows) / total * float(seen.mean()) for rows, seen in pairs)


def student(z: float, freedom: float) -> float:
    """The quantile of Student's distribution at the probability where the normal one has z.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5; good for 5 degrees of
    freedom and more, for fewer too small.
    """
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )

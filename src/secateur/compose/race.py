"""A race: candidates are given up when they can hardly win any more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from secateur.compose.expected import Expected
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
# A candidate waits if it is expected to be behind the most promising by so many standard deviations.
_BEHIND = 2.0
_CHANGED = 8  # samples whose loss a candidate must have changed for its spread to be told
_NOTHING = Expected(0.0, math.inf)


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

    With `recall`, candidates that earlier steps lead one to expect far behind (`expected`) wait. They
    are measured as soon as the leader turns out to be no better than they may be expected to be, and
    left out otherwise, with a loss that is the expected one and no samples. This has a share of the
    error as each look has. What is expected is an approximation (`expected` says which), so a
    candidate waits in no more than four steps running.

    Source: racing, Maron and Moore, Hoeffding Races, NIPS 1993; the estimate is that of stratified
    sampling without replacement, Cochran, Sampling Techniques, 1977, chapter 5.
    """

    confidence: float = 0.99
    recall: bool = True

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
        error = (1 - self.confidence) / (len(_LOOKS) + self.recall)
        runners = [_Runner(contest, i, strata) for i in range(contest.count)]
        waiting = _far_behind(runners) if self.recall else []
        patience = _quantile(error, len(waiting))
        alive, seen = [r for r in runners if r not in waiting], [0] * len(strata)
        for look in (*_LOOKS, (1.0,) * len(strata)):
            wanted = [_count(share, len(rows)) for share, rows in zip(look, strata, strict=True)]
            _show(alive, [r[old:new] for r, old, new in zip(strata, seen, wanted, strict=True)])
            seen = wanted
            leader = min(alive, key=_Runner.place)
            called = [r for r in waiting if not r.hopeless(leader, patience)]
            if called:
                _show(called, [rows[:count] for rows, count in zip(strata, seen, strict=True)])
                waiting = [r for r in waiting if r not in called]
                alive = [*alive, *called]
                leader = min(alive, key=_Runner.place)
            z = _quantile(error, len(alive) - 1)
            alive = [r for r in alive if r is leader or r.behind(leader) <= r.reach(leader, z)]
            if len(alive) == 1:
                break
        return [runner.measured(out=runner not in alive) for runner in runners]


def _quantile(error: float, count: int) -> float:
    """Of the normal distribution, with the error divided among so many."""
    return NormalDist().inv_cdf(1 - error / max(1, count))


def _far_behind(runners: Sequence[_Runner]) -> list[_Runner]:
    """Who is expected to be far behind the most promising of those of whom something is expected."""
    known = [runner for runner in runners if runner.expected is not _NOTHING]
    if not known:
        return []
    first = min(known, key=_Runner.promise)
    return [r for r in known if r.promise() - first.promise() > _BEHIND * r.doubt(first)]


def _show(runners: Sequence[_Runner], rows: Sequence[Tensor]) -> None:
    """Measure them all on these rows of each stratum."""
    contest, numbers = runners[0].contest, [runner.number for runner in runners]
    pieces = torch.cat(list(rows)).split(contest.piece)
    losses = torch.cat([contest.losses(numbers, piece) for piece in pieces], dim=1)
    for runner, row in zip(runners, losses, strict=True):
        runner.see(row.split([len(part) for part in rows]))


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
        self.contest, self.number = contest, number
        self.expected = contest.expected(number) or _NOTHING
        self._strata = strata
        self._seen = [torch.empty(0, dtype=torch.float64) for _ in strata]
        self._loss = float(contest.present.mean())
        self._present = contest.value(number, self._loss)
        scale = abs(self._loss) or 1.0
        self._slope = (contest.value(number, self._loss + scale) - self._present) / scale

    @property
    def samples(self) -> int:
        return sum(losses.numel() for losses in self._seen)

    def see(self, losses: Sequence[Tensor]) -> None:
        """Losses of more samples, stratum by stratum."""
        self._seen = [torch.cat(pair) for pair in zip(self._seen, losses, strict=True)]

    def measured(self, *, out: bool) -> Measured:
        """The mean loss over all samples, estimated from those seen, or what was expected."""
        if not self.samples:
            return Measured(self._loss + self.expected.change, 0, out)
        changes = self._changes()
        mean = self._mean(changes)
        told = sum(int(change.count_nonzero()) for change in changes) >= _CHANGED
        square = self._mean([change.square() for change in changes])
        spread = math.sqrt(max(0.0, square - mean * mean)) if told else 0.0
        known = spread if math.isfinite(spread) else 0.0
        return Measured(self._loss + mean, self.samples, out, known)

    def value(self) -> float:
        """What the candidate is worth, estimated."""
        return self._present + self._mean(self._values())

    def place(self) -> tuple[float, int]:
        """Sorts runners, the leader first."""
        return self.value(), self.number

    def promise(self) -> float:
        """What the candidate is expected to be worth."""
        return self._present + self._slope * self.expected.change

    def doubt(self, other: _Runner) -> float:
        """Standard deviation of the difference between the promises of both."""
        mine, others = self._slope * self.expected.error, other._slope * other.expected.error
        return math.hypot(mine, others)

    def hopeless(self, leader: _Runner, z: float) -> bool:
        """Whether what is expected of it is behind what was seen of the leader, with z as in `reach`."""
        doubt = math.hypot(self._slope * self.expected.error, math.sqrt(leader.variance()))
        return self.promise() - leader.value() > z * doubt

    def variance(self) -> float:
        """Of its estimated value, as an estimate for all samples of the step."""
        return sum(part for part, _ in self._parts(self._values()))

    def behind(self, leader: _Runner) -> float:
        """By how much the value is above the leader's."""
        return self.value() - leader.value()

    def reach(self, leader: _Runner, z: float) -> float:
        """The least difference in value that neither chance nor rounding explains.

        Of a candidate that has not changed the loss of any sample yet nothing is known.

        Args:
            z: the quantile of the normal distribution at the wanted confidence.
        """
        mine, others = self._values(), leader._values()
        parts = self._parts([one - other for one, other in zip(mine, others, strict=True)])
        if parts and not any(bool(value.any()) for value in mine):
            return math.inf
        rounding = self._slope * self.contest.slack(self._loss)
        variance = sum(part for part, _ in parts)
        if variance == 0.0:
            return rounding
        freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
        return max(rounding, student(z, freedom) * math.sqrt(variance))

    def _parts(self, values: Sequence[Tensor]) -> list[tuple[float, int]]:
        """What each stratum that is not wholly seen adds to the variance of the mean, and its freedom."""
        total, found = sum(map(len, self._strata)), []
        for rows, shown in zip(self._strata, values, strict=True):
            seen, size = shown.numel(), rows.numel()
            if seen < size:
                by_chance = float(shown.var()) / seen * (1 - seen / size)
                found.append(((size / total) ** 2 * by_chance, seen - 1))
        return found

    def _changes(self) -> list[Tensor]:
        """Of the losses of single samples, by its absence."""
        return [seen - now for seen, now in zip(self._seen, self._now(), strict=True)]

    def _values(self) -> list[Tensor]:
        """Of single samples, less what the network as it is is worth there."""
        return [self._slope * change for change in self._changes()]

    def _now(self) -> list[Tensor]:
        pairs = zip(self._strata, self._seen, strict=True)
        return [self.contest.present[rows[: seen.numel()]] for rows, seen in pairs]

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

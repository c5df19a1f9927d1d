"""Losses the fast way: the same choices as the plain way, with less to compute.

What is saved: the network that runs is the shrunk one; a candidate's run begins where its absence
begins to matter, and the layers before return what was recorded; a strategy gives candidates up early.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from secateur.compose.candidates import Candidate
from secateur.compose.expected import Expected
from secateur.compose.losses import Answer, Measured, Question
from secateur.compose.plain_losses import PlainLosses
from secateur.compose.pool import Pool
from secateur.compose.replay.cuts import Cuts
from secateur.compose.replay.probe import Probe, probe, slack
from secateur.compose.replay.recording import Store
from secateur.compose.replay.session import Session
from secateur.compose.strategy import EarlyStop, Strategy
from secateur.errors import DataError, ModelError, PlanError
from secateur.types.group import Groups
from secateur.types.loss import Loss

_MOVED = (
    100.0  # times the slack: a candidate that changes some sample's loss so much proves its group
)


class FastLosses:
    """The same choices as `PlainLosses`.

    A group is first measured both ways, until a candidate of it has moved the losses and both agreed;
    where they do not agree it is measured the plain way ever after, and the answer says so. Close
    calls are decided by the plain way. Networks that mix the samples of a batch, losses that are not a
    mean over samples, and networks whose calls differ from batch to batch are measured the plain way.

    Args:
        strategy: whom to measure on how many samples; `EarlyStop()` where not given.
        batch: samples a batch for the plain way.
        piece: samples a batch for the fast way; by default as many as suit the size of the layers.
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
        piece: int | None = None,
        memory: int = 2**30,
    ) -> None:
        self.plainly = PlainLosses(model, groups, pool, loss, batch)
        self.strategy = EarlyStop() if strategy is None else strategy
        self._piece, self._memory = piece, memory
        self._known: Probe | DataError | ModelError | None = None
        self._store = Store()

    def __str__(self) -> str:
        return f"FastLosses({self.strategy})"

    @property
    def pool(self) -> int:
        """How many samples there are."""
        return self.plainly.pool

    @property
    def cuts(self) -> Cuts:
        """Smaller copies of the network, for whoever wants to score them.

        Raises:
            ModelError, DataError: there can be none; `measure` then does without.
        """
        return self._probe().cuts

    def measure(self, question: Question) -> Answer:
        """Each candidate by the fast way where it can be trusted, else by the plain way."""
        try:
            return self._fast(question)
        except (DataError, ModelError, PlanError):
            # If it is the network, the data or the loss, the plain way will say so better.
            answer = self.plainly.measure(question)
        names = dict.fromkeys(candidate.group for candidate in question.candidates)
        return replace(answer, plain=tuple(name for name in names if name not in question.plain))

    def _fast(self, question: Question) -> Answer:
        trial = _Trial(self, self._probe(), question)
        trial.check_cut()
        session = trial.session()
        with session.running():
            trial.prove(session)
            return trial.answer(session)

    def _probe(self) -> Probe:
        if self._known is None:
            plainly = self.plainly
            parts = plainly.model, plainly.groups, plainly.samples, plainly.loss
            try:
                self._known = probe(*parts, self._piece)
            except (DataError, ModelError) as error:
                self._known = error
        if isinstance(self._known, Probe):
            return self._known
        raise self._known

    def run(self, question: Question, whole: frozenset[str]) -> Session:
        """What is left of the network, run on the samples of the question."""
        left = self.cuts(question.masks, whole)
        units: dict[str, list[int]] = {}
        for candidate in question.candidates:
            if candidate.group not in whole:
                units.setdefault(candidate.group, []).append(left.number(candidate))
        return Session(left, self._probe(), units, question.rows, self._memory, self._store)


class _Trial:
    """One question on its way to its answer."""

    def __init__(self, losses: FastLosses, probe: Probe, question: Question) -> None:
        self.losses, self.probe, self.question = losses, probe, question
        self.first = question.rows[: probe.piece]
        gated = {group.name for group in losses.plainly.groups if group.gate is not None}
        self.plain = set(question.plain) | gated  # groups
        self.proven = set[str]()

    def check_cut(self) -> None:
        """A group that has just lost its first unit: does the shrunk network compute the same?"""
        group = self.question.fresh
        if group is None or group in self.plain:
            return
        exact = self.losses.plainly.mean_loss(self.question.masks, self.first, "present network")
        left = self.losses.cuts(self.question.masks, frozenset(self.plain))
        try:
            quick = self.probe.mean_loss(left.network, self.first)
        except DataError:  # it does not run any more
            quick = float("inf")
        if abs(quick - exact) > slack(left.network, exact):
            self.plain.add(group)

    def session(self) -> Session:
        return self.losses.run(self.question, frozenset(self.plain))

    def prove(self, session: Session) -> None:
        """Measure the first candidate of each group that is not yet proven both ways."""
        for group in dict.fromkeys(candidate.group for candidate in self.question.candidates):
            if group in self.plain or group in self.question.proven:
                continue
            candidate = next(c for c in self.question.candidates if c.group == group)
            quick = session.losses([candidate], session.first)[0]
            exact = self.losses.plainly.candidate_loss(
                replace(self.question, rows=self.first), candidate
            )
            if abs(float(quick.mean()) - exact) > session.slack(exact):
                self.plain.add(group)
            elif (quick - session.present[: len(quick)]).abs().max() > _MOVED * session.slack(0.0):
                self.proven.add(group)

    def answer(self, session: Session) -> Answer:
        """Fast ones by the strategy, the others one by one; close calls once more."""
        candidates, count = self.question.candidates, self.question.rows.numel()
        fast = [i for i, candidate in enumerate(candidates) if candidate.group not in self.plain]
        contest = _Contest(self.question, session, fast)
        settled = self.losses.strategy.settle(contest) if fast else []
        measured = dict(zip(fast, settled, strict=True))
        present = float(session.present.mean())
        if len(fast) < len(candidates):  # rivals whose loss is no estimate
            measured = {i: self._whole(i, m, session) for i, m in measured.items()}
        for i, candidate in enumerate(candidates):
            if i not in measured:
                measured[i] = Measured(self._plainly(candidate), count)
        rivals = self._rivals(measured, present, session)
        if len(rivals) > 1:
            present = self.losses.plainly.mean_loss(
                self.question.masks, self.question.rows, "present network"
            )
            measured |= self._again(rivals, fast, measured, session)
        found = tuple(measured[i] for i in range(len(candidates)))
        new = sorted(self.plain - self.question.plain)
        return Answer(present, found, tuple(sorted(self.proven)), tuple(new))

    def _rivals(self, measured: dict[int, Measured], present: float, session: Session) -> list[int]:
        """Candidates so close to the best that rounding decides."""
        low, high = {}, {}
        for i, found in measured.items():
            if not found.out:
                off, removed = session.slack(found.loss), self.question.removed[i]
                low[i], high[i] = (
                    self.question.objective.value(found.loss + by, present, removed)
                    for by in (-off, off)
                )
        return sorted(i for i in low if low[i] <= min(high.values()))

    def _whole(self, i: int, found: Measured, session: Session) -> Measured:
        """What is not out, measured on all samples."""
        if found.out or found.samples == len(session.rows):
            return found
        parts = session.rows.split(session.piece)
        candidate = self.question.candidates[i]
        losses = torch.cat([session.losses([candidate], rows)[0] for rows in parts])
        return Measured(float(losses.mean()), len(losses), spread=found.spread)

    def _again(
        self,
        rivals: Sequence[int],
        fast: Sequence[int],
        measured: Mapping[int, Measured],
        session: Session,
    ) -> dict[int, Measured]:
        """The plain losses of some candidates; those without any effect are alike."""
        found: dict[int, Measured] = {}
        silent: Measured | None = None
        for i in rivals:
            candidate = self.question.candidates[i]
            without_effect = i in fast and session.silent(candidate)
            if without_effect and silent is not None:
                found[i] = silent
                continue
            loss, spread = self._plainly(candidate), measured[i].spread
            found[i] = Measured(loss, self.question.rows.numel(), spread=spread)
            silent = found[i] if without_effect else silent
        return found

    def _plainly(self, candidate: Candidate) -> float:
        return self.losses.plainly.candidate_loss(self.question, candidate)


@dataclass(frozen=True, slots=True, eq=False)
class _Contest:
    """The fast candidates of a question, for a strategy."""

    question: Question
    session: Session
    fast: Sequence[int]

    @property
    def count(self) -> int:
        return len(self.fast)

    @property
    def present(self) -> Tensor:
        return self.session.present

    @property
    def piece(self) -> int:
        return self.session.piece

    def losses(self, candidates: Sequence[int], rows: Tensor) -> Tensor:
        return self.session.losses(
            [self.question.candidates[self.fast[i]] for i in candidates], rows
        )

    def value(self, candidate: int, loss: float) -> float:
        removed = self.question.removed[self.fast[candidate]]
        return self.question.objective.value(loss, float(self.session.present.mean()), removed)

    def slack(self, loss: float) -> float:
        return self.session.slack(loss)

    def expected(self, candidate: int) -> Expected | None:
        known = self.question.expected
        return known[self.fast[candidate]] if known else None

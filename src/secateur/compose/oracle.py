"""The myopic oracle: of a few candidates it removes the one whose absence costs least, and repeats.

Source: Persand, Anderson, Gregg: Composition of Saliency Metrics for Channel Pruning with a Myopic
Oracle, arXiv 2004.03376. Metrics only propose; the true loss decides, one step ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from secateur.compose.candidates import Candidate, Masks, candidates, check_no_pattern
from secateur.compose.expected import expected
from secateur.compose.losses import Answer, Losses, Question
from secateur.compose.objective import LowestLoss, Objective
from secateur.compose.steps import Step, Tried, masks_after
from secateur.cost.counts import params
from secateur.errors import DataError, OptionError
from secateur.types.group import Groups
from secateur.types.seed import derive


class Scoring(Protocol):
    """Something that scores what is left of a network."""

    def __call__(self, masks: Masks, seed: int) -> Mapping[str, Mapping[str, Tensor]]:
        """Per metric and group, (n,); higher is more worth keeping; for units that are gone, anything.

        Args:
            masks: what is left now.
            seed: for the samples to score on: each step has its own.
        """
        ...


def oracle(
    groups: Groups,
    score: Scoring,
    losses: Losses,
    *,
    k: int = 16,
    samples: int = 256,
    objective: Objective | None = None,
    seed: int = 0,
    met: Callable[[Masks], bool] | None = None,
    journal: Sequence[Step] = (),
) -> Iterator[Step]:
    """Remove one unit a step, until the goals are met or nothing is left to remove.

    Each step is yielded when it is decided. The process may end after any of them: with the steps so
    far as `journal` it goes on as if nothing had happened, and every later step is the same.

    Args:
        k: how many candidates are measured in a step.
        samples: how many samples are drawn for it; all candidates are measured on the same.
        objective: what the chosen candidate minimises; `LowestLoss()` where not given.
        met: asked before every step; nothing more is removed once it says yes.
        journal: steps that were taken before, from the first on.

    Raises:
        OptionError: an option makes no sense, or a group has a pattern.
        DataError: there are fewer samples than are to be drawn; while running: data cannot be used.
        ScoreError: while running: scores cannot be used.
        PlanError: the journal is of other groups, or has a gap.
    """
    for name, number in (("k", k), ("samples", samples)):
        if type(number) is not int or number < 1:
            raise OptionError(f"{name}={number!r} is not a whole number from 1", where="oracle")
    if samples > losses.pool:
        raise DataError(
            f"{samples} samples a step are to be drawn from {losses.pool}",
            where="samples",
            hint=f"more data, or samples={losses.pool}",
        )
    check_no_pattern(groups)
    goal = LowestLoss() if objective is None else objective
    if isinstance(goal, type) or not isinstance(goal, Objective):
        raise OptionError(
            f"{objective!r} is no objective", where="oracle", hint="LowestLoss(), LossPerWeight()"
        )
    masks = masks_after(groups, journal)

    def steps() -> Iterator[Step]:
        known = list(journal)
        while met is None or not met(dict(masks)):
            number = len(known)
            scores = score(dict(masks), derive(seed, "score", number))
            proposed = candidates(groups, scores, masks, k)
            if not proposed:
                return
            question = Question(
                dict(masks),
                proposed,
                _drawn(losses.pool, samples, derive(seed, "samples", number)),
                goal,
                [_weights(groups, masks, c) if goal.weighs else 0 for c in proposed],
                _fresh(known, masks),
                frozenset(name for step in known for name in step.proven),
                frozenset(name for step in known for name in step.plain),
                expected(known, proposed, samples),
            )
            step = _step(number, question, losses.measure(question))
            masks[step.removed.group] = without(masks, step.removed)[step.removed.group]
            known.append(step)
            yield step

    return steps()


def without(masks: Masks, gone: Candidate | Tried) -> dict[str, Tensor]:
    """The masks with one unit less; the given ones stay as they are."""
    mask = masks[gone.group].clone()
    mask[gone.unit] = False
    return {**masks, gone.group: mask}


def best(question: Question, answer: Answer) -> int:
    """Which candidate to remove; of equal ones the first that was proposed."""
    values = {
        i: question.objective.value(measured.loss, answer.present, question.removed[i])
        for i, measured in enumerate(answer.measured)
        if not measured.out
    }
    return min(values, key=lambda i: (values[i], i))


def _step(number: int, question: Question, answer: Answer) -> Step:
    left = sum(int(mask.sum()) for mask in question.masks.values()) - 1
    tried = tuple(
        Tried(c.group, c.unit, c.proposer, m.loss, m.samples, m.out, m.spread)
        for c, m in zip(question.candidates, answer.measured, strict=True)
    )
    return Step(
        number,
        tried,
        best(question, answer),
        answer.present,
        question.rows.numel(),
        left,
        answer.proven,
        answer.plain,
    )


def _drawn(pool: int, samples: int, seed: int) -> Tensor:
    """Different rows of the pool, in random order."""
    return torch.randperm(pool, generator=torch.Generator().manual_seed(seed))[:samples]


def _fresh(known: Sequence[Step], masks: Masks) -> str | None:
    """The group that the last step took its first unit from."""
    if not known or int((~masks[known[-1].removed.group]).sum()) > 1:
        return None
    return known[-1].removed.group


def _weights(groups: Groups, masks: Masks, candidate: Candidate) -> int:
    """Parameters that go with a candidate."""
    return params(groups, masks) - params(groups, without(masks, candidate))

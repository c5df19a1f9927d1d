"""Candidates of one step: who is proposed for removal, and by which metric."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from secateur.errors import OptionError, ScoreError
from secateur.types.group import Group, Groups

Masks = Mapping[str, Tensor]
"""Group name → bool (n,); True stays."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A unit that may be removed next."""

    group: str
    unit: int
    proposer: str  # the metric that named it first

    def __str__(self) -> str:
        return f"{self.group}, unit {self.unit}"


def candidates(
    groups: Groups, scores: Mapping[str, Mapping[str, Tensor]], masks: Masks, k: int = 16
) -> list[Candidate]:
    """The lowest unit of each metric in turn, then the second lowest of each, and so on.

    Repetitions are skipped until there are k distinct candidates, or no unit is left. The units of
    all groups stand in one row. Units that are gone are no candidates, nor is the last one of a
    group. Of equal scores the earlier group goes first, then the lower index.

    Args:
        scores: per metric and group, (n,); lower goes first; metrics are asked in this order.

    Raises:
        OptionError: k is not a whole number from 1, there is no metric, or a group has a pattern.
        ScoreError: scores of a group are missing, of the wrong length, or NaN where a unit is left.
    """
    if type(k) is not int or k < 1:
        raise OptionError(f"k={k!r} candidates are none", where="k", hint="a whole number from 1")
    if not scores:
        raise OptionError("there is no metric to propose candidates", where="scores")
    check_no_pattern(groups)
    free = [(group, free_units(masks[group.name], group.least.units)) for group in groups]
    left = sum(units.numel() for _, units in free)
    # no metric is asked for its k + 1st: k of its own would be enough
    queues = [(metric, _queue(free, scores[metric], metric)[:k].tolist()) for metric in scores]
    found: dict[int, str] = {}
    for metric, place in _round_robin(queues):
        if len(found) == min(k, left):
            break
        found.setdefault(place, metric)
    return [_at(free, place, metric) for place, metric in found.items()]


def free_units(mask: Tensor, least: int = 1) -> Tensor:
    """Units of one group that may still go, int64, ascending: all that are left, or none of the last.

    Args:
        least: how many must stay.
    """
    left = mask.nonzero().squeeze(1)
    return left if left.numel() > least else left[:0]


def check_no_pattern(groups: Groups) -> None:
    """One unit after the other can be removed only where no pattern binds them.

    Raises:
        OptionError: names the first group with a pattern.
    """
    for group in groups:
        if group.pattern is not None:
            k, m = group.pattern
            raise OptionError(
                f"keeps {k} of every {m} units, and the oracle removes one unit at a time",
                where=group.name,
                hint="a granularity without a pattern, such as sec.Channels()",
            )


def _round_robin(queues: list[tuple[str, list[int]]]) -> Iterator[tuple[str, int]]:
    """(metric, place): every metric's first, then every metric's second, ..."""
    for row in zip(*(queue for _, queue in queues), strict=True):
        for (metric, _), place in zip(queues, row, strict=True):
            yield metric, place


def _at(free: list[tuple[Group, Tensor]], place: int, metric: str) -> Candidate:
    """Who stands at a place in the row of all free units."""
    ends = list(accumulate((units.numel() for _, units in free), initial=0))
    number = bisect_right(ends, place) - 1
    group, units = free[number]
    return Candidate(group.name, int(units[place - ends[number]]), metric)


def _queue(free: list[tuple[Group, Tensor]], scores: Mapping[str, Tensor], metric: str) -> Tensor:
    """Places in the row of all free units, lowest score first."""
    row = [_free_scores(group, units, scores, metric) for group, units in free]
    return torch.cat(row).sort(stable=True).indices if row else torch.empty(0, dtype=torch.int64)


def _free_scores(group: Group, units: Tensor, scores: Mapping[str, Tensor], metric: str) -> Tensor:
    where = f"{metric}, {group.name}"
    if group.name not in scores:
        raise ScoreError("there are no scores", where=where)
    values = scores[group.name]
    if values.shape != (group.size,):
        raise ScoreError(
            f"has scores of shape {tuple(values.shape)} for {group.size} units", where=where
        )
    values = values.detach().to("cpu", torch.float64)[units]
    if bool(values.isnan().any()):
        raise ScoreError("a score is NaN", where=where)
    return values

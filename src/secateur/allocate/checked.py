"""Scores and options, checked at the door."""

from __future__ import annotations

import torch
from torch import Tensor

from secateur.errors import OptionError, ScoreError
from secateur.types.group import Groups
from secateur.types.scores import Scores


def scores_of(groups: Groups, scores: Scores, by: str) -> dict[str, Tensor]:
    """The scores of one saliency: group name → (n,).

    Raises:
        ScoreError: the saliency or a group was not scored, or scores are too few or not finite.
    """
    if by not in scores:
        raise ScoreError(f"there are no {by!r} scores", hint=f"scored were: {', '.join(scores)}")
    found: dict[str, Tensor] = {}
    for group in groups:
        where = f"{by}, {group.name}"
        if group.name not in scores[by]:
            raise ScoreError(
                "was not scored", where=where, hint="score the groups that are allocated"
            )
        values = scores[by][group.name]
        if values.shape != (group.size,):
            raise ScoreError(
                f"needs {group.size} scores, found shape {tuple(values.shape)}",
                where=where,
                hint="score the groups that are allocated",
            )
        if not bool(torch.isfinite(values).all()):
            raise ScoreError("a score is NaN or infinite", where=where)
        found[group.name] = values.detach().cpu()
    return found


def check_limits(floor: int | float, round_to: int, where: str) -> None:
    """Refuse a floor or rounding that makes no sense.

    Raises:
        OptionError: neither a fraction between 0 and 1 nor a number of units from 1.
    """
    fraction = isinstance(floor, float)
    if not (0.0 < floor < 1.0 if fraction else floor >= 1):
        raise OptionError(
            f"floor={floor!r} is neither a fraction between 0 and 1 nor a number of units",
            where=where,
            hint="floor=0.1 keeps a tenth of every group, floor=4 keeps four units",
        )
    if round_to < 1:
        raise OptionError(
            f"round_to={round_to} is no width", where=where, hint="round_to=8 keeps multiples of 8"
        )

"""Scores and options, checked at the door."""

from __future__ import annotations

import torch
from torch import Tensor

from secateur.errors import OptionError, ScoreError
from secateur.types.group import Group, Groups
from secateur.types.scores import Scores


def scores_of(groups: Groups, scores: Scores, by: str) -> dict[str, Tensor]:
    """The scores of one saliency: group name → (n,).

    Raises:
        UnknownNameError: there are no scores of this name.
        ScoreError: a group was not scored, or scores are too few or not finite.
    """
    by_group = scores[by]
    found: dict[str, Tensor] = {}
    for group in groups:
        where = f"{by}, {group.name}"
        if group.name not in by_group:
            raise ScoreError(
                "was not scored", where=where, hint="score the groups that are allocated"
            )
        found[group.name] = _usable(by_group[group.name], group.size, where)
    return found


def layers_of(group: Group, scores: Scores, by: str) -> dict[str, Tensor]:
    """The scores of one saliency in each layer that writes the group: weight → (n,); {} for none.

    Raises:
        ScoreError: scores are too few or not finite.
    """
    by_weight = scores.layers.get(by, {}).get(group.name, {})
    return {
        weight: _usable(values, group.size, f"{by}, {group.name}, {weight}")
        for weight, values in by_weight.items()
    }


def _usable(values: Tensor, size: int, where: str) -> Tensor:
    if values.shape != (size,):
        raise ScoreError(
            f"needs {size} scores, found shape {tuple(values.shape)}",
            where=where,
            hint="score the groups that are allocated",
        )
    if not bool(torch.isfinite(values).all()):
        raise ScoreError("a score is NaN or infinite", where=where)
    return values.detach().cpu()


def check_limits(floor: int | float, round_to: int, where: str) -> None:
    """Refuse a floor or rounding that makes no sense.

    Raises:
        OptionError: neither a fraction between 0 and 1 nor a number of units from 1.
    """
    sound = 0.0 < floor < 1.0 if isinstance(floor, float) else type(floor) is int and floor >= 1
    if not sound:
        raise OptionError(
            f"floor={floor!r} is neither a fraction between 0 and 1 nor a number of units",
            where=where,
            hint="floor=0.1 keeps a tenth of every group, floor=4 keeps four units",
        )
    if type(round_to) is not int or round_to < 1:
        raise OptionError(
            f"round_to={round_to!r} is no width",
            where=where,
            hint="round_to=8 keeps multiples of 8",
        )

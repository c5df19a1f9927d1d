"""Scores at the door: rows of float32 numbers, one row for each part, over the same units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from secateur.errors import ScoreError


def checked(scores: Mapping[str, Tensor], who: object = "") -> dict[str, Tensor]:
    """The scores as they are stored: float32 (n,) on the CPU, finite.

    Args:
        scores: group name → (n,).
        who: the saliency they are of, for the error.

    Raises:
        ScoreError: a group's scores are no vector, or not finite.
    """
    found = {}
    for group, values in scores.items():
        where = f"{who}, {group}" if who else group
        row = values.detach().to("cpu", torch.float32)
        if row.dim() != 1:
            raise ScoreError(
                f"has scores of shape {tuple(row.shape)}",
                where=where,
                hint="a group has one score for each of its units: shape (n,)",
            )
        if not bool(torch.isfinite(row).all()):
            raise ScoreError("a score is NaN, infinite, or beyond float32", where=where)
        found[group] = row
    return found


def aligned(
    parts: Sequence[object], scores: Sequence[Mapping[str, Tensor]]
) -> list[dict[str, Tensor]]:
    """One checked row for each part, all over the units of the first, groups in its order.

    Raises:
        ScoreError: scores are not finite, or not of the same groups and sizes.
    """
    if len(scores) != len(parts):
        raise ScoreError(
            f"{len(parts)} parts, but {len(scores)} rows of scores",
            where="combine",
            hint="one mapping from groups to scores for each part, in the order of the parts",
        )
    rows = [checked(row, part) for part, row in zip(parts, scores, strict=True)]
    first = {group: len(values) for group, values in rows[0].items()}
    for part, row in zip(parts, rows, strict=True):
        sizes = {group: len(values) for group, values in row.items()}
        if sizes != first:
            wrong = sorted({group for group, _ in sizes.items() ^ first.items()})
            raise ScoreError(
                f"was scored for other units than {parts[0]}, in {', '.join(wrong)}",
                where=str(part),
                hint="score all parts on the same groups",
            )
    return [{group: row[group] for group in first} for row in rows]

"""What was seen, judged: every output against the difference that is allowed."""

from __future__ import annotations

import torch

from secateur.errors import ModelError
from secateur.export.verified import Seen

TOLERANCE = 1e-4
"""Of the largest element. Float32 sums in another order differ by some 1e-6."""

_COARSE = {torch.float16: 2e-3, torch.bfloat16: 2e-2}
"""Twice the distance from 1 to the next number: the runtime may round where PyTorch does not."""


def allowed(seen: Seen) -> float:
    """The tolerance where none is given: that of the coarsest output."""
    return max((_COARSE.get(dtype, TOLERANCE) for dtype in seen.dtypes), default=TOLERANCE)


def judge(seen: Seen, tolerance: float, runtime: str) -> None:
    """Every output on its own, by its own largest element.

    Raises:
        ModelError: one differs by more than is allowed, or there was nothing to compare.
    """
    _something_compared(seen)
    for place, gap in enumerate(seen.outputs):
        if not gap.max_abs_diff <= tolerance * gap.max_abs_output:
            which = f"output {place}: " if len(seen.outputs) > 1 else ""
            raise ModelError(
                f"{which}{runtime} and PyTorch differ by {gap.max_abs_diff:.3g} where outputs go up to"
                f" {gap.max_abs_output:.3g}: more than the {tolerance:g} that is allowed",
                where="export",
                hint="no file was written; tolerance=... allows more",
            )


def _something_compared(seen: Seen) -> None:
    """Numbers that are not finite, or not there, agree with anything."""
    blind = [place for place, gap in enumerate(seen.outputs) if gap.elements and not gap.finite]
    if blind:
        raise ModelError(
            f"the network's output {blind[0]} holds no finite number: there is nothing to compare",
            where="export",
            hint="no file was written; are its weights, and the example, finite?",
        )
    if not any(gap.elements for gap in seen.outputs):
        raise ModelError(
            "the network returns no number: there is nothing to compare",
            where="export",
            hint="no file was written; is there another example?",
        )

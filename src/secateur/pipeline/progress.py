"""What a long job says while it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a job stands.

    Attributes:
        stage: "groups", "score", "certify", "recalibrate", "finetune", "accuracy", "latency", ...
        done: batches or steps of this stage that are behind; 0 where it begins.
        of: how many there will be; None where nobody knows.
        seen: what this step found, in words, where that deserves a line of its own.
    """

    stage: str
    done: int = 0
    of: int | None = None
    seen: str = ""


Report = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """Say nothing."""


def counting(report: Report, stage: str, of: int | None) -> Callable[[int], None]:
    """A callback that takes the number done, as scoring and measuring call it."""
    report(Progress(stage, 0, of))

    def tell(done: int) -> None:
        report(Progress(stage, done, of))

    return tell

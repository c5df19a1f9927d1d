"""Scores of an earlier time, from their own file or from the folder of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from secateur.pipeline.folder import RunFolder
from secateur.pipeline.job import Job
from secateur.pipeline.rebuild import run_path
from secateur.pipeline.scored import Scored
from secateur.pipeline.shelf import SCORES
from secateur.pipeline.sketch import redrawn
from secateur.pipeline.stamp import stamp_of
from secateur.types.scores import Scores


def scores_file(path: str | Path) -> Path:
    """The file: `path` itself, or the one in a run's folder.

    Raises:
        FileError: it is a folder, but not that of a run.
    """
    return run_path(path) / SCORES.file if Path(path).is_dir() else Path(path)


def read_scores(path: str | Path) -> Scores:
    """The scores.

    Raises:
        FileError: missing, damaged, something else, or not what the run has written.
    """
    file = scores_file(path)
    return RunFolder(file.parent).read(SCORES) if Path(path).is_dir() else Scores.load(file)


def example_of_scores(job: Job, seed: int, device: torch.device) -> Any:
    """Random inputs of the shapes that were scored; None where nobody noted any."""
    if not isinstance(job.method, Scored):
        return None
    sketched = stamp_of(job.method.scores).get("example")
    return None if sketched is None else redrawn(sketched, seed, device, where="scores")

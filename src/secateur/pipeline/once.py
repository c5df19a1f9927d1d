"""Scoring alone, for budgets that come later."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from secateur.errors import FileError
from secateur.find import groups
from secateur.pipeline.example import drawn
from secateur.pipeline.job import METHOD, job
from secateur.pipeline.methods import Method, find_method
from secateur.pipeline.progress import Progress, Report, silent
from secateur.pipeline.request import Request
from secateur.pipeline.run import dense, example_of
from secateur.pipeline.scored import one_pass
from secateur.pipeline.scoring import take
from secateur.pipeline.source import source
from secateur.pipeline.stamp import stamped
from secateur.types.dataset import Dataset
from secateur.types.scores import Scores


def score_once(
    request: Request,
    saliencies: Sequence[str],
    file: str | Path,
    data: Dataset | None,
    report: Report = silent,
) -> Scores:
    """The scores that a run with this request would decide by, stamped, in a file.

    Args:
        request: its budgets, and whatever else is about what follows scoring, play no part.
        saliencies: scored in one pass, in the place of `request.method`.
        data: what `request.data` names.

    Raises:
        FileError: the file cannot be written, or is there and holds no scores.
        OptionError: the method is a recipe that no scores stand for.
        SecateurError: whatever `prune` raises before it decides.
    """
    method = _method(request, saliencies)
    task = job(
        method,
        None,
        granularity=request.granularity,
        keep=request.keep,
        samples=request.samples,
        seed=request.seed,
    )
    if request.example is not None:
        drawn(request.example, request.seed)
    model, of = dense(request), source(data)
    _check_place(Path(file))  # once nothing can be mistyped any more
    example = example_of(request, model, of, task)
    report(Progress("groups"))
    with torch.random.fork_rng(devices=[]):
        every = groups(model, example, task.granularity)
        scores = take(task, method, model, every, of, report)
    scores = stamped(scores, model, task.granularity, every, example)
    scores.save(file)
    return scores


def _method(request: Request, saliencies: Sequence[str]) -> Method:
    texts = saliencies or (request.method or METHOD,)
    found = [one_pass(find_method(text, request.seed)) for text in texts]
    if len(found) == 1:
        return found[0]
    return Method(tuple(saliency for method in found for saliency in method.saliencies))


def _check_place(file: Path) -> None:
    """Before scoring, which may be long: is this a place for scores?"""
    if not file.parent.is_dir():
        raise FileError(
            "there is no such folder", where=str(file.parent), hint="make it, or choose another"
        )
    if file.exists():
        Scores.load(file)  # nothing else is written over: it may be the network's own weights

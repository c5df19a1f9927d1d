"""A run: a job in text, carried out in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from secateur import models
from secateur.mask import shrink
from secateur.mask.check import named_tensors
from secateur.mask.fill import fill
from secateur.pipeline import fingerprint
from secateur.pipeline.claim import claimed
from secateur.pipeline.example import drawn, from_data
from secateur.pipeline.folder import RECORD, RunFolder, begun, same_arguments
from secateur.pipeline.given import example_of_scores, read_scores, scores_file
from secateur.pipeline.job import Job
from secateur.pipeline.progress import Report, silent
from secateur.pipeline.request import Request, job_of
from secateur.pipeline.result import Result
from secateur.pipeline.shelf import CERTIFICATE, MEASURES, MODEL, PLAN, SCORES
from secateur.pipeline.source import Source, source
from secateur.pipeline.stages import carry_out
from secateur.types.call import device_of
from secateur.types.dataset import Dataset


def run(
    request: Request, folder: str | Path, data: Dataset | None, report: Report = silent
) -> Result:
    """Prune as the request says; everything that comes of it lies in the folder.

    Started again with the same request it goes on where it was stopped, and ends with the same
    bytes; where it had come to its end, the result is read.

    Args:
        data: what `request.data` names.

    Raises:
        FileError: the folder cannot be written, or holds something else or another run.
        SecateurError: whatever `prune` raises. The folder is then as it was.
    """
    job = task_of(request)
    if request.example is not None:
        drawn(request.example, request.seed)
    model = dense(request)
    # what was mistyped is said by now: before a folder is made, or found to hold something
    with claimed(Path(folder)) as path:
        if (path / RECORD.file).exists():
            record = RECORD.load(path / RECORD.file)
            same_arguments(record, request.to_json(), record.get("inputs") or {}, path)
        inputs = _inputs(request, model, data)
        shelf = begun(path, request.to_json(), inputs, request.command())
        if shelf.finished:
            return _stored(shelf, model)
        of = source(data)
        result = carry_out(job, model, example_of(request, model, of, job), of, shelf, report)
        shelf.finish()
    return result


def task_of(request: Request) -> Job:
    """What the request means; the scores that it names are read.

    Raises:
        SecateurError: one of its texts makes no sense, or the scores cannot be read.
    """
    return job_of(request, None if request.scores is None else read_scores(request.scores))


def dense(request: Request) -> nn.Module:
    """The network before pruning; random weights follow the request's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(request.seed)
        return models.load(request.model, request.weights)


def example_of(request: Request, model: nn.Module, of: Source, job: Job) -> Any:
    """What the network is run on."""
    if request.example is not None:
        return drawn(request.example, request.seed)
    if of.train is None:
        found = example_of_scores(job, request.seed, device_of(model))
        if found is not None:
            return found
    return from_data(model, of, job.granularity, request.seed)


def _stored(shelf: RunFolder, model: nn.Module) -> Result:
    """The result of a run that came to its end."""
    plan = shelf.read(PLAN)
    small = shrink(model, plan).eval()
    fill(small, shelf.read(MODEL), where=str(shelf.path / MODEL.file))
    return Result(small, plan, shelf.read(SCORES), shelf.read(CERTIFICATE), shelf.read(MEASURES))


def _inputs(request: Request, model: nn.Module, data: Dataset | None) -> dict[str, Any]:
    """Hashes of the contents behind the texts."""
    code = {"model code": request.model, "method code": request.method, "data code": request.data}
    return {
        "weights": fingerprint.of_file(request.weights) if request.weights else None,
        "scores": fingerprint.of_file(scores_file(request.scores)) if request.scores else None,
        "dense network": fingerprint.of_tensors(named_tensors(model)),
        **{name: fingerprint.of_code(text) if text else None for name, text in code.items()},
        **{f"{part} data": digest for part, digest in fingerprint.of_data(data).items()},
    }

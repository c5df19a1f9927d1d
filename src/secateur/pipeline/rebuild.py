"""From a run's folder back to the network."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import nn

from secateur import models
from secateur.errors import FileError
from secateur.mask import shrink
from secateur.mask.carve import carve
from secateur.mask.cut import Cut, cut_of
from secateur.mask.fill import fill
from secateur.pipeline.folder import RECORD, RunFolder
from secateur.pipeline.job import Job
from secateur.pipeline.request import Request, from_json, job_of
from secateur.pipeline.shelf import CUT, MODEL, PLAN, SCORES
from secateur.types.kinds import as_path


def rebuild(folder: str | Path) -> nn.Module:
    """The pruned network, in eval mode: bit for bit what the run ended with.

    A fresh network of the original kind is cut by the plan, without tracing, and filled from
    `model.safetensors`. The dense network's weights need not be there any more.

    Raises:
        FileError: it is no run's folder, the run is not finished, or a file is damaged.
        PlanError: what the run calls the network is another network by now.
    """
    shelf = RunFolder(run_path(folder))
    request = request_of(shelf)
    weights = request.weights
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(request.seed)
        fresh = models.load(request.model, weights if weights and Path(weights).exists() else None)
    cut = shelf.has(CUT)
    small = (carve(fresh, shelf.read(CUT)) if cut else shrink(fresh, shelf.read(PLAN))).eval()
    fill(small, shelf.read(MODEL), where=str(shelf.path / MODEL.file))
    return small


def run_path(folder: str | Path) -> Path:
    """The folder, if there is a run in it.

    Raises:
        FileError: there is none.
        OptionError: what was given is no path.
    """
    path = as_path(folder, "run", "the folder that secateur prune wrote")
    if not (path / RECORD.file).is_file():
        raise FileError(
            "is not the folder of a run", where=str(path), hint="secateur prune ... -o makes one"
        )
    return path


def request_of(shelf: RunFolder) -> Request:
    """What the run was asked to do."""
    where = shelf.path / RECORD.file
    return from_json(shelf.read(RECORD).get("request"), str(where))


def cut_in(shelf: RunFolder) -> Cut:
    """What was cut out of the dense network."""
    return shelf.read(CUT) if shelf.has(CUT) else cut_of(shelf.read(PLAN))


def job_in(shelf: RunFolder, request: Request) -> Job:
    """What the request means; scores that it was given are those that the folder holds.

    A run that came in a bundle has no scores, and nothing is decided by them any more.
    """
    if shelf.has(CUT):
        request = dataclasses.replace(request, scores=None)
    return job_of(request, None if request.scores is None else shelf.read(SCORES))

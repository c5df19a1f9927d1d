"""The plan of a run: as it was written, or, where the run came in a bundle, found once more."""

from __future__ import annotations

from typing import Any

from torch import nn

from secateur import archive
from secateur.find import groups
from secateur.mask.derive import derive
from secateur.pipeline.folder import RunFolder
from secateur.pipeline.job import Job
from secateur.pipeline.rounding import Rounding
from secateur.pipeline.shelf import CUT, MODEL, PACKED, PLAN
from secateur.types.plan import Plan


def plan_in(shelf: RunFolder, model: nn.Module, example: Any, job: Job) -> Plan:
    """The plan of a finished run.

    A bundle holds what was cut out, not the groups that it was decided by. They are traced again, and
    the masks read off the cut and the weights.

    Args:
        model: the dense network.
        example: what it is run on.

    Raises:
        FileError: a file is damaged.
        PlanError: the network has other groups than the one that was pruned.
    """
    if not shelf.has(CUT):
        return shelf.read(PLAN)
    found = groups(model, example, job.granularity)
    masks = derive(found, shelf.read(CUT), shelf.read(MODEL))
    with archive.malformed(shelf.path / PACKED.file, "packed"):
        for name, units in shelf.read(PACKED)["differ"].items():
            masks[name][units] = ~masks[name][units]
    return Plan(found, masks)


def rounding_in(shelf: RunFolder) -> Rounding:
    """What the weights were rounded to when the run was packed."""
    if not shelf.has(PACKED):
        return Rounding()
    with archive.malformed(shelf.path / PACKED.file, "packed"):
        return Rounding(**shelf.read(PACKED)["rounding"])

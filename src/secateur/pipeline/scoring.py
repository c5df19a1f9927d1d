"""Taking scores: the one stage that looks at data before anything is decided."""

from __future__ import annotations

import torch
from torch import nn

from secateur.pipeline.job import Job
from secateur.pipeline.methods import Method
from secateur.pipeline.progress import Report, counting
from secateur.pipeline.source import Source, calibration, length
from secateur.saliency import score
from secateur.types.group import Groups
from secateur.types.scores import Scores
from secateur.types.seed import derive


def take(
    job: Job, method: Method, model: nn.Module, every: Groups, of: Source, report: Report
) -> Scores:
    """Scores of every unit by every saliency of the method; torch's random state moves on."""
    data = calibration(of, job.samples, job.seed) if method.needs_data else None
    tell = counting(report, "score", length(data))
    torch.default_generator.manual_seed(derive(job.seed, "score"))  # of a loader that shuffles
    return score(model, every, data, method.saliencies, loss=job.loss, progress=tell)

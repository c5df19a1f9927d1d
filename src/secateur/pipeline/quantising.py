"""Weights of few bits as the last stage: after masks, repairs and fine-tuning, all of which move weights."""

from __future__ import annotations

import torch
from torch import nn

from secateur.pipeline.job import Job
from secateur.pipeline.progress import Progress, Report, counting
from secateur.pipeline.repairs import SAMPLES
from secateur.pipeline.source import Source, calibration, length
from secateur.quantize import Rounded, quantize
from secateur.recover import recalibrate
from secateur.types.seed import derive


def quantised(job: Job, network: nn.Module, of: Source, report: Report) -> Rounded | None:
    """Give the network's weights the bits that the job asks for, in place; None where it asks for none.

    Statistics of BatchNorms follow, unless the job says that they are left alone.
    """
    if job.quantizer is None:
        return None
    data = None
    if job.rounding != "nearest":
        data = calibration(of, min(job.samples, SAMPLES), job.seed)
    torch.default_generator.manual_seed(derive(job.seed, "quantize"))  # of a loader that shuffles

    def tell(done: int, layers: int) -> None:
        report(Progress("quantize", done, layers))

    report(Progress("quantize"))
    rounded = quantize(network, job.quantizer, data, progress=tell)
    many = None if job.recalibrate is False else calibration(of, job.samples, job.seed)
    if many is not None:
        torch.default_generator.manual_seed(derive(job.seed, "recalibrate"))
        recalibrate(network, many, progress=counting(report, "recalibrate", length(many)))
    return rounded

"""Learning from the dense network's outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.errors import DataError, OptionError
from secateur.types.call import run
from secateur.types.untouched import mode


@dataclass(frozen=True, slots=True, eq=False)
class Teacher:
    """A network whose outputs are imitated.

        share * T^2 * KL(softmax(teacher / T) || softmax(student / T)) + (1 - share) * loss(y)

    averaged over the samples; classes lie on dim 1. T^2 keeps the gradient's size when T changes.
    With `share=1.0` no labels are needed. The teacher runs in eval mode and does not learn.

    Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015.
    """

    model: nn.Module
    temperature: float = 4.0
    share: float = 0.5

    def __post_init__(self) -> None:
        if not self.temperature > 0.0:
            raise OptionError(f"temperature={self.temperature:g} is not positive", where="Teacher")
        if not 0.0 < self.share <= 1.0:
            raise OptionError(f"share={self.share:g} is not in (0, 1]", where="Teacher")

    def distance(self, output: Any, x: Any, where: str) -> Tensor:
        """T^2 * KL on one batch, given the student's output, (N, classes, ...).

        Raises:
            DataError: the teacher does not run on x, or the two outputs cannot be compared.
        """
        with torch.no_grad(), mode(self.model, training=False):
            target = run(self.model, x, where)
        if not (isinstance(output, Tensor) and isinstance(target, Tensor)):
            raise DataError("a teacher needs outputs that are one tensor", where=where)
        if output.shape != target.shape or output.dim() < 2:
            raise DataError(
                f"outputs of shape {tuple(output.shape)}, the teacher's {tuple(target.shape)}",
                where=where,
                hint="both must be (N, classes, ...)",
            )
        student = F.log_softmax(output / self.temperature, dim=1)
        taught = F.log_softmax(target / self.temperature, dim=1)
        apart = F.kl_div(student, taught, reduction="none", log_target=True).sum(1).mean()
        return self.temperature**2 * apart

"""How a demo network is trained: SGD with Nesterov momentum, a warm-up and a cosine."""

from __future__ import annotations

import math
from dataclasses import dataclass

from secateur.errors import OptionError


@dataclass(frozen=True, slots=True)
class Recipe:
    """The settings of a training.

    Attributes:
        batch: samples a step.
        rate: peak learning rate.
        momentum: of SGD, with Nesterov's correction.
        decay: weight decay, on all parameters.
        warmup: share of the steps in which the rate rises from 0.
        shift: images move by up to this many pixels in each direction.
        flip: half of the images are mirrored left to right.
    """

    batch: int = 128
    rate: float = 0.1
    momentum: float = 0.9
    decay: float = 5e-4
    warmup: float = 0.1
    shift: int = 2
    flip: bool = True

    def __post_init__(self) -> None:
        between = 0 < self.momentum < 1 and 0 < self.warmup < 1
        if not (between and self.batch > 1 and self.rate > 0 <= self.decay and self.shift >= 0):
            raise OptionError(
                f"no training with {self}",
                hint="batch above 1, rate above 0, momentum and warmup between 0 and 1",
            )

    def rate_at(self, step: int, steps: int) -> float:
        """Learning rate of step 0 <= `step` < `steps`."""
        done = (step + 1) / steps
        if done < self.warmup:
            return self.rate * done / self.warmup
        return self.rate * (1 + math.cos(math.pi * (done - self.warmup) / (1 - self.warmup))) / 2

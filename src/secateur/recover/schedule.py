"""How the learning rate changes over a run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from secateur.errors import OptionError


class Schedule(Protocol):
    """Something that scales the learning rate."""

    def factor(self, done: float) -> float:
        """What the rate is multiplied by when a share `done` in [0, 1) of all steps is behind."""
        ...


@dataclass(frozen=True, slots=True)
class Cosine:
    """From the full rate down to `end` of it along half a cosine, after a linear warm-up.

        f(t) = end + (1 - end) * (1 + cos(pi * t)) / 2   with t from 0 to 1 after the warm-up

    `end=1.0` keeps the rate.

    Source: Loshchilov and Hutter, SGDR, ICLR 2017.
    """

    end: float = 0.0
    warmup: float = 0.0  # share of all steps

    def __post_init__(self) -> None:
        if not 0.0 <= self.end <= 1.0:
            raise OptionError(f"end={self.end:g} is not between 0 and 1", where="Cosine")
        if not 0.0 <= self.warmup < 1.0:
            raise OptionError(f"warmup={self.warmup:g} is not between 0 and 1", where="Cosine")

    def factor(self, done: float) -> float:
        """The rate at a share `done` of the run, as a factor."""
        if done < self.warmup:
            return done / self.warmup
        t = (done - self.warmup) / (1.0 - self.warmup)
        return self.end + (1.0 - self.end) * 0.5 * (1.0 + math.cos(math.pi * t))

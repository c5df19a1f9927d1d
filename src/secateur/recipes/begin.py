"""Where a training of masks begins."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import nn

from secateur.compose import Composable
from secateur.errors import ModelError
from secateur.learn.start import FromScores, Normal, Start
from secateur.saliency.magnitude import Magnitude
from secateur.saliency.score import score
from secateur.types.group import Groups
from secateur.types.seed import derive


class Begin(Protocol):
    """Weights and logits before the first step."""

    def prepare(self, network: nn.Module, groups: Groups, seed: int) -> Start:
        """Make the network what training begins with, in place; what the logits begin with."""
        ...


@dataclass(frozen=True, slots=True)
class Scratch:
    """Fresh weights and normal logits: nothing of the trained network is used but its shape."""

    logits: Normal = field(default_factory=Normal)

    def prepare(self, network: nn.Module, groups: Groups, seed: int) -> Start:
        """Every module draws its weights anew, by its own `reset_parameters`.

        Raises:
            ModelError: a module holds parameters and does not say how they begin.
        """
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derive(seed, "weights"))
            for name, module in network.named_modules():
                own = [*module.parameters(recurse=False)]
                reset = getattr(module, "reset_parameters", None) or getattr(
                    module, "_reset_parameters", None
                )
                if callable(reset):
                    reset()
                elif own:
                    raise ModelError(
                        f"a {type(module).__name__} holds parameters and has no reset_parameters",
                        where=name,
                        hint="give it one, or begin with the trained weights: dpp?begin=trained",
                    )
        return self.logits


@dataclass(frozen=True, slots=True)
class Trained:
    """The weights as they are, and logits that follow a saliency of weights.

    Attributes:
        by: looks at weights alone.
        spread: standard deviation of the logits of a row; see `FromScores`.
    """

    by: Composable = field(default_factory=Magnitude)
    spread: float = 1.0

    def prepare(self, network: nn.Module, groups: Groups, seed: int) -> Start:
        """The network stays as it is."""
        return FromScores(score(network, groups, None, self.by)[self.by.name], self.spread)

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
            ModelError: a module holds parameters and does not say how they begin; or a parameter is
                frozen, and would stay what it begins with.
        """
        frozen = [n for n, parameter in network.named_parameters() if not parameter.requires_grad]
        if frozen:
            raise ModelError("is frozen, and would begin anew and never learn", frozen[0], _HINT)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derive(seed, "weights"))
            # children first, as constructors do: a parent may set what a child has drawn
            for name, module in reversed([*network.named_modules()]):
                _reset(module, name)
        return self.logits


def _reset(module: nn.Module, name: str) -> None:
    own = [*module.parameters(recurse=False)]
    names = ("reset_parameters", "_reset_parameters")
    reset = next((r for r in (getattr(module, n, None) for n in names) if callable(r)), None)
    kind = type(module).__name__
    if reset is None:
        if own:
            raise ModelError(
                f"a {kind} holds parameters and has no reset_parameters",
                name,
                f"give it one, or {_HINT}",
            )
        return
    try:
        reset()
    except (TypeError, RuntimeError, ValueError) as error:
        raise ModelError(f"reset_parameters of a {kind} failed: {error}", name, _HINT) from error


_HINT = "begin with the trained weights: dpp?begin=trained"


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

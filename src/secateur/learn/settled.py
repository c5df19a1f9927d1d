"""Masks that are no longer drawn: weights settle behind the ones that will stay."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from secateur.learn.choice import Choice
from secateur.learn.gate import Gate
from secateur.learn.sampler import Sampler


@dataclass(frozen=True, slots=True)
class Settled(Sampler):
    """Takes the k highest logits; of equal ones the first, as a gate does in eval mode."""

    def choose(self, logits: Tensor, k: int, gumbel: Tensor) -> Choice:
        """The most likely draw; the noise is not looked at."""
        value = logits.detach()
        found = value.sort(dim=1, descending=True, stable=True)
        starts = torch.arange(0, value.numel(), value.shape[1], device=value.device)
        places = found.indices[:, :k] + starts[:, None]
        return Choice(value, places, found.values[:, :k])


def settle(gate: Gate) -> None:
    """From now on the mask is that of eval mode, and logits do not move: no momentum carries them on."""
    said = {field.name: getattr(gate.sampler, field.name) for field in fields(Sampler)}
    gate.sampler = Settled(**said)
    gate.logits.requires_grad_(False)
    gate.logits.grad = None


def unsettle(gate: Gate, sampler: Sampler) -> None:
    """Masks are drawn again."""
    gate.sampler = sampler
    gate.logits.requires_grad_(True)

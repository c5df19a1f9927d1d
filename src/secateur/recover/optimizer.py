"""Optimisers as values: what to build, said before there are parameters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from secateur.errors import OptionError

Parameters = Iterable[nn.Parameter] | Iterable[dict[str, Any]]
"""Parameters, or groups of them with settings of their own."""


class Optimizer(Protocol):
    """Something that makes a torch optimiser."""

    def build(self, parameters: Parameters) -> torch.optim.Optimizer:
        """A fresh optimiser over the parameters."""
        ...


@dataclass(frozen=True, slots=True)
class SGD:
    """Stochastic gradient descent with momentum."""

    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-4
    nesterov: bool = False

    def __post_init__(self) -> None:
        _check("SGD", self.lr, self.weight_decay)
        if not 0.0 <= self.momentum < 1.0:
            raise OptionError(f"momentum={self.momentum:g} is not in [0, 1)", where="SGD")
        if self.nesterov and self.momentum == 0.0:
            raise OptionError("nesterov needs momentum", where="SGD", hint="momentum=0.9")

    def build(self, parameters: Parameters) -> torch.optim.Optimizer:
        """A fresh `torch.optim.SGD`."""
        return torch.optim.SGD(
            parameters,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov,
        )


@dataclass(frozen=True, slots=True)
class AdamW:
    """Adam with decoupled weight decay."""

    lr: float = 1e-3
    weight_decay: float = 1e-2

    def __post_init__(self) -> None:
        _check("AdamW", self.lr, self.weight_decay)

    def build(self, parameters: Parameters) -> torch.optim.Optimizer:
        """A fresh `torch.optim.AdamW`."""
        return torch.optim.AdamW(parameters, lr=self.lr, weight_decay=self.weight_decay)


def _check(where: str, lr: float, weight_decay: float) -> None:
    if not 0.0 < lr < float("inf"):
        raise OptionError(f"lr={lr:g} is no step size", where=where, hint="such as lr=0.01")
    if not 0.0 <= weight_decay < float("inf"):
        raise OptionError(f"weight_decay={weight_decay:g} makes no sense", where=where)

"""The state of a training between two epochs, in a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from secateur import archive
from secateur.errors import FileError
from secateur.mask.check import named_tensors
from secateur.mask.fill import fill


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """Where a training stands.

    Attributes:
        epochs: how many are done.
        tensors: every parameter and buffer, by name.
        slots: the optimiser's, by parameter.
        notes: plain JSON values.
    """

    epochs: int
    tensors: Mapping[str, Tensor]
    slots: Mapping[int, Mapping[str, Tensor]]
    notes: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(
        epochs: int,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        notes: Mapping[str, Any] | None = None,
    ) -> Checkpoint:
        """The present state; nothing is copied."""
        slots = {
            index: {key: value for key, value in slot.items() if isinstance(value, Tensor)}
            for index, slot in optimizer.state_dict()["state"].items()
        }
        return Checkpoint(epochs, named_tensors(model), slots, notes or {})

    def restore(self, model: nn.Module) -> None:
        """Put it into the network.

        Raises:
            PlanError: it is of another network.
        """
        fill(model, self.tensors, where="checkpoint")

    def resume(self, optimizer: torch.optim.Optimizer) -> None:
        """Put it into the optimiser."""
        if self.slots:
            optimizer.load_state_dict(optimizer.state_dict() | {"state": self.slots})

    def save(self, path: Path) -> None:
        """Write it.

        Raises:
            FileError: the file cannot be written.
        """
        tensors = {f"model.{name}": tensor for name, tensor in self.tensors.items()}
        for index, slot in self.slots.items():
            tensors |= {f"slot.{index}.{key}": value for key, value in slot.items()}
        header = {"epochs": self.epochs, "notes": dict(self.notes)}
        archive.save(path, "checkpoint", header, tensors)

    @staticmethod
    def load(path: Path, epochs: int) -> Checkpoint:
        """Read what `save` wrote.

        Args:
            epochs: of the whole training.

        Raises:
            FileError: the file is damaged, or claims more epochs than there are.
        """
        header, stored = archive.load(path, "checkpoint")
        tensors: dict[str, Tensor] = {}
        slots: dict[int, dict[str, Tensor]] = {}
        with archive.malformed(path, "checkpoint"):
            done, notes = int(header["epochs"]), dict(header.get("notes", {}))
            for name, tensor in stored.items():
                kind, _, rest = name.partition(".")
                if kind == "slot":
                    index, key = rest.split(".", 1)
                    slots.setdefault(int(index), {})[key] = tensor
                else:
                    tensors[rest] = tensor
        if not 0 < done <= epochs:
            hint = "remove it to begin anew"
            raise FileError(f"claims {done} epochs", where=str(path), hint=hint)
        return Checkpoint(done, tensors, slots, notes)

"""A training that can stop after any epoch: all it needs to go on, in one safetensors file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from secateur import archive
from secateur.errors import FileError


@dataclass(frozen=True, slots=True)
class Training:
    """What a training changes as it goes, and what makes it this training.

    Attributes:
        generator: of the order of the samples and their augmentation.
        config: JSON values; a state with others is refused.
    """

    model: nn.Module
    optimizer: torch.optim.SGD
    generator: torch.Generator
    config: dict[str, Any]


def save_training(training: Training, epoch: int, path: Path) -> None:
    """Write the state after `epoch` epochs, atomically."""
    tensors = {f"model.{name}": tensor for name, tensor in training.model.state_dict().items()}
    for index, slot in training.optimizer.state_dict()["state"].items():
        tensors[f"momentum.{index}"] = slot["momentum_buffer"]
    tensors["generator"] = training.generator.get_state()
    archive.save(path, "training", {"config": training.config, "epoch": epoch}, tensors)


def resume_training(training: Training, path: Path) -> int:
    """Take up the state in `path`, in place.

    Returns:
        How many epochs are done.

    Raises:
        FileError: damaged, or of a training with another seed, data or setting.
    """
    header, tensors = archive.load(path, "training")
    with archive.malformed(path, "training"):
        same_config(header["config"], training.config, path)
        training.model.load_state_dict(_under("model.", tensors))
        optimizer = training.optimizer.state_dict()
        optimizer["state"] = {
            int(index): {"momentum_buffer": buffer}
            for index, buffer in _under("momentum.", tensors).items()
        }
        training.optimizer.load_state_dict(optimizer)
        training.generator.set_state(tensors["generator"])
        epoch = int(header["epoch"])
    if not 0 <= epoch <= training.config["epochs"]:
        raise FileError(f"claims {epoch} epochs", where=str(path), hint="remove it to begin anew")
    return epoch


def same_config(found: Any, config: dict[str, Any], path: Path) -> None:
    """Raise `FileError` where a file is of another training than `config`; says how they differ."""
    found = found if isinstance(found, dict) else {}
    different = sorted(key for key in config if found.get(key) != config[key])
    if different:
        raise FileError(
            "is of another training: "
            + ", ".join(f"{key} was {found.get(key)}, is {config[key]}" for key in different),
            where=str(path),
            hint="write to another file, or remove this one to begin anew",
        )


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }

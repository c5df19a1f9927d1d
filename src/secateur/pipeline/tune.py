"""Fine-tuning that can be killed: after every epoch its state goes to a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import length_hint
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from secateur import archive
from secateur.errors import FileError
from secateur.mask.check import named_tensors
from secateur.pipeline.fill import fill
from secateur.pipeline.job import Job
from secateur.pipeline.progress import Progress, Report
from secateur.recover import SGD, finetune
from secateur.types.plan import Plan
from secateur.types.seed import derive


def tune(
    model: nn.Module,
    plan: Plan,
    data: Iterable[Any],
    job: Job,
    checkpoint: Path | None,
    report: Report,
) -> None:
    """Fine-tune in place, from where the checkpoint stands if there is one.

    Args:
        plan: its masked units stay zero; what it cut out is gone already.

    Raises:
        FileError: the checkpoint is damaged or cannot be written.
    """
    optimizer, done = _Remembering(), 0
    if checkpoint is not None and checkpoint.exists():
        done = _resume(model, optimizer, checkpoint, job.finetune)
    ends = done

    def ended() -> None:
        nonlocal ends
        ends += 1
        if checkpoint is not None:
            _save(model, optimizer, ends, checkpoint)

    if done == job.finetune:
        return
    removable = any(group.removable for group in plan.groups)
    steps = finetune(
        model,
        _Epochs(data, ended),
        epochs=range(done, job.finetune),
        optimizer=optimizer,
        plan=None if removable else plan,
        loss=job.loss,
        seed=derive(job.seed, "finetune"),
    )
    report(Progress("finetune", 0))
    for step in steps:
        of = step.of and step.of * job.finetune
        report(Progress("finetune", step.epoch * (step.of or 0) + step.step + 1, of))


class _Epochs:
    """Data that say when they were read to the end; by then the last step has been taken."""

    def __init__(self, data: Iterable[Any], ended: Callable[[], None]) -> None:
        self._data, self._ended = data, ended

    def __iter__(self) -> Iterator[Any]:
        yield from self._data
        self._ended()

    def __length_hint__(self) -> int:
        return length_hint(self._data)


class _Remembering:
    """SGD whose state can be looked at, and which begins with a state that it is given."""

    def __init__(self) -> None:
        self.state: Mapping[int, Mapping[str, Tensor]] = {}
        self.built: torch.optim.Optimizer | None = None

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        self.built = SGD().build(parameters)
        if self.state:
            self.built.load_state_dict(self.built.state_dict() | {"state": self.state})
        return self.built


def _save(model: nn.Module, optimizer: _Remembering, done: int, path: Path) -> None:
    tensors = {f"model.{name}": tensor for name, tensor in named_tensors(model).items()}
    slots = {} if optimizer.built is None else optimizer.built.state_dict()["state"]
    for index, slot in slots.items():
        for key, value in slot.items():
            if isinstance(value, Tensor):
                tensors[f"slot.{index}.{key}"] = value
    archive.save(path, "checkpoint", {"epochs": done}, tensors)


def _resume(model: nn.Module, optimizer: _Remembering, path: Path, epochs: int) -> int:
    """Take up the state; returns how many epochs are done."""
    header, tensors = archive.load(path, "checkpoint")
    with archive.malformed(path, "checkpoint"):
        done = int(header["epochs"])
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("slot."):
                _, index, key = name.split(".", 2)
                state.setdefault(int(index), {})[key] = tensor
    if not 0 < done <= epochs:
        raise FileError(f"claims {done} epochs", where=str(path), hint="remove it to begin anew")
    prefix = "model."
    own = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    fill(model, own, where=str(path))
    optimizer.state = state
    return done

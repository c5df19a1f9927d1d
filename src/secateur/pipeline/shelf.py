"""Where the results of a job are put: in memory, or in a folder that a later start finds again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from torch import Tensor

from secateur import archive
from secateur.mask import Certificate
from secateur.mask.cut import Cut
from secateur.pipeline.certificates import (
    read_certificate,
    read_json,
    write_certificate,
    write_json,
)
from secateur.types.plan import Plan
from secateur.types.scores import Scores

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """One kind of result: the file it lies in, and how it gets there and back."""

    file: str
    load: Callable[[Path], T]
    save: Callable[[T, Path], Any]


def _load_tensors(path: Path) -> Mapping[str, Tensor]:
    return archive.load(path, "model")[1]


def _save_tensors(tensors: Mapping[str, Tensor], path: Path) -> Path:
    return archive.save(path, "model", {}, tensors)


SCORES: Kind[Scores] = Kind("scores.safetensors", Scores.load, Scores.save)
PLAN: Kind[Plan] = Kind("plan.safetensors", Plan.load, Plan.save)
CERTIFICATE: Kind[Certificate] = Kind("certificate.json", read_certificate, write_certificate)
MODEL: Kind[Mapping[str, Tensor]] = Kind("model.safetensors", _load_tensors, _save_tensors)
LEARNED: Kind[Mapping[str, Tensor]] = Kind("learned.safetensors", _load_tensors, _save_tensors)
FLOATS: Kind[Mapping[str, Tensor]] = Kind("floats.safetensors", _load_tensors, _save_tensors)
CUT: Kind[Cut] = Kind("cut.safetensors", Cut.load, Cut.save)
PACKED: Kind[Mapping[str, Any]] = Kind("packed.json", read_json, write_json)
MEASURES: Kind[Mapping[str, Any]] = Kind("measures.json", read_json, write_json)


class Shelf(Protocol):
    """Something that remembers results."""

    @property
    def checkpoint(self) -> Path | None:
        """Where a training may keep its state; None where nothing outlives the process."""
        ...

    @property
    def learning(self) -> Path | None:
        """The same, for a recipe that trains before anything is cut."""
        ...

    @property
    def steps(self) -> Sequence[Mapping[str, Any]]:
        """What a recipe of many steps has noted before."""
        ...

    def step(self, said: Mapping[str, Any]) -> None:
        """Note a step of a recipe: plain JSON values."""
        ...

    def keep(self, kind: Kind[T], make: Callable[[], T]) -> T:
        """The result of this kind: what was put there before, or what `make` gives now."""
        ...


class Memory:
    """Keeps nothing."""

    checkpoint: Path | None = None
    learning: Path | None = None
    steps: Sequence[Mapping[str, Any]] = ()

    def step(self, said: Mapping[str, Any]) -> None:
        """Forget it."""

    def keep(self, kind: Kind[T], make: Callable[[], T]) -> T:
        """What `make` gives."""
        return make()

"""What became of masks over a training: one entry an epoch, as values, as JSON, as curves."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from secateur.errors import FileError, UnknownNameError
from secateur.files import write_text
from secateur.learn.information import MaskInformation


@dataclass(frozen=True, slots=True)
class Epoch:
    """The state of all gates at the end of one epoch.

    Attributes:
        epoch: 0, 1, ...
        temperature: during the epoch.
        loss: mean training loss of the epoch, the penalty left out; None where it is unknown or not
            finite.
        masks: group → measures.
    """

    epoch: int
    temperature: float
    loss: float | None
    masks: Mapping[str, MaskInformation]

    def scalars(self) -> dict[str, float]:
        """Every number under a name of its own, for loggers: "masks/<group>/<measure>"."""
        found = {"masks/temperature": self.temperature}
        if self.loss is not None:
            found["masks/loss"] = self.loss
        for group, measures in self.masks.items():
            found |= {f"masks/{group}/{name}": getattr(measures, name) for name in MEASURES}
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        masks = {group: measures.to_json() for group, measures in self.masks.items()}
        return {
            "epoch": self.epoch,
            "temperature": self.temperature,
            "loss": self.loss,
            "masks": masks,
        }


@dataclass(frozen=True, slots=True)
class History:
    """The epochs of one training, in their order; some may be missing."""

    epochs: tuple[Epoch, ...] = ()

    def then(self, epoch: Epoch) -> History:
        """With one epoch more; those that were from it on are gone, as a training resumed before them."""
        return History((*(e for e in self.epochs if e.epoch < epoch.epoch), epoch))

    def curve(self, group: str, measure: str) -> list[float]:
        """One measure of one group over the epochs.

        Raises:
            UnknownNameError: there is no such measure, or an epoch knows no such group.
        """
        if measure not in MEASURES:
            raise UnknownNameError(
                "there is no such measure", where=measure, hint=", ".join(MEASURES)
            )
        for epoch in self.epochs:
            if group not in epoch.masks:
                raise UnknownNameError(
                    f"epoch {epoch.epoch} has no such group",
                    where=group,
                    hint=", ".join([*epoch.masks][:8]),
                )
        return [getattr(epoch.masks[group], measure) for epoch in self.epochs]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"kind": _KIND, "epochs": [epoch.to_json() for epoch in self.epochs]}

    @classmethod
    def from_json(cls, values: Any, where: str = "history") -> History:
        """Inverse of `to_json`.

        Raises:
            FileError: the values are not what `to_json` gives.
        """
        try:
            if values["kind"] != _KIND:
                raise FileError(f"is no {_KIND}", where=where)
            epochs = tuple(_epoch(entry) for entry in values["epochs"])
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise FileError(f"is no {_KIND}: {error!r}", where=where) from error
        if any(b.epoch <= a.epoch for a, b in itertools.pairwise(epochs)):
            raise FileError("epochs are not in their order", where=where)
        return cls(epochs)

    def save(self, path: str | Path) -> Path:
        """Write JSON, whole or not at all."""
        return write_text(path, json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> History:
        """Read what `save` wrote.

        Raises:
            FileError: missing, damaged, or something else.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise FileError(f"cannot read: {error.strerror}", where=str(path)) from error
        except ValueError as error:
            raise FileError("is no JSON", where=str(path)) from error
        return cls.from_json(values, str(path))


def finite(loss: float | None) -> float | None:
    """The loss, or None where no number says what it was."""
    return loss if loss is not None and math.isfinite(loss) else None


def _epoch(values: Any) -> Epoch:
    masks = {group: _information(entry) for group, entry in values["masks"].items()}
    loss = None if values["loss"] is None else _number(values["loss"], float)
    temperature = _number(values["temperature"], float)
    return Epoch(_number(values["epoch"], int), temperature, loss, masks)


def _information(values: Mapping[str, Any]) -> MaskInformation:
    kinds = get_type_hints(MaskInformation)
    if set(values) != set(kinds):
        raise KeyError(*sorted(set(values) ^ set(kinds)))
    return MaskInformation(**{name: _number(values[name], kind) for name, kind in kinds.items()})


def _number(value: Any, kind: type) -> Any:
    """A finite number of this kind; JSON may write a float as an integer."""
    fits = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
    if not fits or not math.isfinite(value):
        raise ValueError(f"{value!r} is no {kind.__name__}")
    return kind(value)


_KIND = "secateur mask history"
MEASURES = tuple(
    field.name
    for field in dataclasses.fields(MaskInformation)
    if field.name not in {"rows", "n", "k"}
)
"""The names of the measures that a curve can show."""

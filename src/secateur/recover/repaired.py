"""What a repair did, and what it could not do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Repaired:
    """The layers that read what a plan removed.

    Attributes:
        changed: layer → the tensors of the small network that have new values, in the order of the run.
        left: layer, or parameter that is no layer's weight → why it is as it was.
    """

    changed: Mapping[str, tuple[str, ...]]
    left: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "changed": {layer: list(names) for layer, names in self.changed.items()},
            "left": dict(self.left),
        }

    def __str__(self) -> str:
        lines = [f"{len(self.changed)} layers repaired, {len(self.left)} left as they were"]
        lines += [f"    {layer}: {', '.join(names)}" for layer, names in self.changed.items()]
        lines += [f"    {layer}: left, {why}" for layer, why in self.left.items()]
        return "\n".join(lines)

"""What quantising a network came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from secateur.learn.codes import Codes


@dataclass(frozen=True, slots=True, eq=False)
class Rounded:
    """The quantised weights of a network, by the names of its parameters.

    Attributes:
        bits: of one weight.
        codes: codes and scales; what the parameter holds is `codes[name].values()`, bit for bit.
        calibrated: whose rounding was solved on data, in the order of the run.
        nearest: whose weights were rounded to the nearest → why.
    """

    bits: int
    codes: Mapping[str, Codes]
    calibrated: tuple[str, ...]
    nearest: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "bits": self.bits,
            "calibrated": list(self.calibrated),
            "nearest": dict(self.nearest),
        }

    def __str__(self) -> str:
        lines = [
            f"{len(self.codes)} weights of {self.bits} bits, {len(self.calibrated)} of them calibrated"
        ]
        lines += [f"    {name}: calibrated" for name in self.calibrated]
        lines += [f"    {name}: to the nearest, {why}" for name, why in self.nearest.items()]
        return "\n".join(lines)

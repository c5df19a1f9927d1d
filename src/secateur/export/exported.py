"""What was written, and the evidence that it computes what the network computes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Written:
    """A file.

    Attributes:
        sha256: of its contents.
    """

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Exported:
    """An export that was loaded back, run, and compared with the network in PyTorch.

    Attributes:
        path: the file that was asked for.
        format: the exporter's name.
        options: the exporter, as it was given: "Onnx(opset=21, ...)".
        runtime: what ran it, with its version.
        files: all that belongs to it, the one asked for first.
        batches: how many samples each input had that was compared.
        max_abs_diff: the largest difference of any output element.
        max_abs_output: the largest finite output element in PyTorch.
        tolerance: the difference that was allowed, relative to the largest output.
        quantized: weights that are stored as integer codes.
    """

    path: Path
    format: str
    options: str
    runtime: str
    files: tuple[Written, ...]
    batches: tuple[int, ...]
    max_abs_diff: float
    max_abs_output: float
    tolerance: float
    quantized: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"path": str(self.path)}

    def __str__(self) -> str:
        size = sum(file.bytes for file in self.files)
        names = ", ".join(file.name for file in self.files)
        coded = f"\n{len(self.quantized)} weights as integer codes" if self.quantized else ""
        return (
            f"{names}: {size:,} bytes\n"
            f"{self.runtime} and PyTorch differ by {self.max_abs_diff:.3g} at most "
            f"(outputs up to {self.max_abs_output:.3g}, batches of "
            f"{', '.join(map(str, self.batches))}){coded}"
        )

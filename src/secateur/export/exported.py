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
class Gap:
    """One output of a network in PyTorch and in another runtime.

    Attributes:
        max_abs_diff: the largest difference of any element.
        max_abs_output: the largest finite element in PyTorch.
        elements: how many there were.
        finite: how many of them were finite in PyTorch.
    """

    max_abs_diff: float
    max_abs_output: float
    elements: int
    finite: int

    @property
    def relative(self) -> float:
        """The difference over the largest element; the difference itself where all are zero."""
        return self.max_abs_diff / (self.max_abs_output or 1.0)


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
        outputs: what was seen of every output on its own, over all inputs.
        max_abs_diff: the largest difference of any output element.
        max_abs_output: the largest finite output element in PyTorch.
        tolerance: the difference that was allowed of each output, relative to its largest element.
        quantized: weights that are stored as integer codes.
    """

    path: Path
    format: str
    options: str
    runtime: str
    files: tuple[Written, ...]
    batches: tuple[int, ...]
    outputs: tuple[Gap, ...]
    tolerance: float
    quantized: tuple[str, ...]

    @property
    def max_abs_diff(self) -> float:
        """Of all outputs."""
        return max(each.max_abs_diff for each in self.outputs)

    @property
    def max_abs_output(self) -> float:
        """Of all outputs."""
        return max(each.max_abs_output for each in self.outputs)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {
            "path": str(self.path),
            "max_abs_diff": self.max_abs_diff,
            "max_abs_output": self.max_abs_output,
        }

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

"""What a bundle weighs, and where the bytes are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class PackedTensor:
    """One tensor in a bundle.

    Attributes:
        coding: in words.
        dense_bytes: in memory.
        bytes: of its block; its name, shape and coding are in the header.
    """

    name: str
    shape: tuple[int, ...]
    coding: str
    dense_bytes: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Packed:
    """A bundle that was written; all of its bytes are in one of the parts.

    Attributes:
        path: the file; None where it was only measured.
        bytes: of the whole file.
        header: magic, lengths, the header as it is stored, and the checksum at the end.
        structure: which indices were cut out.
        record: what else is told of a run.
        base: SHA-256 of the bundle that it is a difference to, in hex; None where it stands alone.
        tensors: in the order of the file.
    """

    path: Path | None
    bytes: int
    header: int
    structure: int
    record: int
    base: str | None
    tensors: tuple[PackedTensor, ...]

    @property
    def dense_bytes(self) -> int:
        """Of all tensors in memory."""
        return sum(tensor.dense_bytes for tensor in self.tensors)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "file": None if self.path is None else str(self.path),
            "bytes": self.bytes,
            "header": self.header,
            "structure": self.structure,
            "record": self.record,
            "base": self.base,
            "memory_bytes": self.dense_bytes,
            "tensors": [
                {
                    "name": tensor.name,
                    "shape": list(tensor.shape),
                    "coding": tensor.coding,
                    "memory_bytes": tensor.dense_bytes,
                    "bytes": tensor.bytes,
                }
                for tensor in self.tensors
            ],
        }

    def rows(self) -> Iterator[tuple[str, str, str, str, str]]:
        """A table: name, shape, coding, bytes in memory, bytes in the file; the sums come last."""
        for tensor in self.tensors:
            shape = "x".join(map(str, tensor.shape))
            sizes = f"{tensor.dense_bytes:,}", f"{tensor.bytes:,}"
            yield tensor.name, shape, tensor.coding, *sizes
        for name in ("structure", "record", "header"):
            if size := getattr(self, name):
                yield f"({name})", "", "", "", f"{size:,}"
        yield "total", "", "", f"{self.dense_bytes:,}", f"{self.bytes:,}"

    def __str__(self) -> str:
        rows = [("", "shape", "coding", "in memory", "packed"), *self.rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        adjust = (str.ljust, str.ljust, str.ljust, str.rjust, str.rjust)
        return "\n".join(
            "  ".join(a(cell, w) for a, cell, w in zip(adjust, row, widths, strict=True)).rstrip()
            for row in rows
        )

"""The formats that ship with the package, by name and by the ending of their files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from secateur.errors import OptionError
from secateur.export.executorch import ExecuTorch
from secateur.export.exporter import Exporter
from secateur.export.onnx import Onnx
from secateur.export.openvino import OpenVino
from secateur.export.torch_program import TorchProgram

FORMATS: dict[str, Callable[..., Exporter]] = {
    kind.name: kind for kind in (Onnx, TorchProgram, OpenVino, ExecuTorch)
}


def for_ending(path: Path) -> Exporter:
    """The format that files with this ending have, with its own defaults.

    Raises:
        OptionError: none has.
    """
    for make in FORMATS.values():
        found = make()
        if found.ending == path.suffix:
            return found
    endings = ", ".join(make().ending for make in FORMATS.values())
    raise OptionError(
        "no format has this ending",
        where=str(path),
        hint=f"one of {endings}, or --format (how= in Python)",
    )

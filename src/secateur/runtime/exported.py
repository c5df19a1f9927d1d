"""Runtimes that run an exported file: ONNX Runtime and OpenVINO."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from secateur.export import Exporter, Onnx, OpenVino, plain_copy
from secateur.runtime.runtime import Once
from secateur.types.call import cloned, run, to


@dataclass(frozen=True, slots=True)
class OnnxRuntime:
    """ONNX Runtime on the CPU, for the example's batch alone."""

    name: ClassVar[str] = "onnxruntime"

    def require(self) -> str:
        """See `Runtime`."""
        return Onnx().require()

    def load(self, model: nn.Module, example: Any, threads: int = 1) -> Once:
        """See `Runtime`."""
        return _load(Onnx(dynamic_batch=False), model, example, threads)

    def load_onnx(self, content: bytes, example: Tensor, threads: int) -> Once:
        """See `ReadsOnnx`."""
        return _open(Onnx(), content, example, threads)


@dataclass(frozen=True, slots=True)
class OpenVinoF32:
    """OpenVINO on the CPU in float32, for the example's batch alone."""

    name: ClassVar[str] = "openvino"

    def require(self) -> str:
        """See `Runtime`."""
        return f"{OpenVino().require()} f32"

    def load(self, model: nn.Module, example: Any, threads: int = 1) -> Once:
        """See `Runtime`."""
        return _load(OpenVino(dynamic_batch=False), model, example, threads)

    def load_onnx(self, content: bytes, example: Tensor, threads: int) -> Once:
        """See `ReadsOnnx`."""
        return _open(OpenVino(), content, example, threads)


def _load(how: Exporter, model: nn.Module, example: Any, threads: int) -> Once:
    """Export into a folder that is gone afterwards."""
    how.require()
    network, given = plain_copy(model), cloned(to(example, device="cpu"))
    with torch.no_grad():
        run(network, cloned(given), "example")
    with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
        path = Path(folder) / f"network{how.ending}"
        how.write(network, given, path)
        return _opened(how, path, given, threads)


def _open(how: Exporter, content: bytes, example: Tensor, threads: int) -> Once:
    """What the bytes of an ONNX file hold."""
    with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
        path = Path(folder) / "network.onnx"
        path.write_bytes(content)
        return _opened(how, path, example, threads)


def _opened(how: Exporter, path: Path, example: Any, threads: int) -> Once:
    """The file in its runtime, run once."""
    if isinstance(how, Onnx):
        once = how.bound(path, example, threads)
    else:
        once = partial(how.open(path, threads), example)
    once()
    return once

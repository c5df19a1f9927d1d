"""ONNX by the exporter that stands on torch.export, run by ONNX Runtime."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from secateur.errors import ModelError, OptionError
from secateur.export.exporter import Session
from secateur.export.faults import quiet, told
from secateur.export.grid import grids
from secateur.export.program import program, refuse_numbers
from secateur.export.quantized_onnx import store_codes
from secateur.extras import missing
from secateur.types.call import tensors

_OLDEST = 18  # the oldest opset that torch's exporter writes well
_MOST_BYTES = 2**31 - 1  # of one protobuf message


@dataclass(frozen=True, slots=True)
class Onnx:
    """ONNX (.onnx), run by ONNX Runtime; quantised weights are integer codes and DequantizeLinear.

    Attributes:
        opset: from 18; at least 21 stores weights of four bits and less in four.
        dynamic_batch: any number of samples, or that of the example alone.
        codes: False stores quantised weights as floats.
    """

    name: ClassVar[str] = "onnx"
    ending: ClassVar[str] = ".onnx"

    opset: int = 21
    dynamic_batch: bool = True
    codes: bool = True

    def __post_init__(self) -> None:
        if type(self.opset) is not int or self.opset < _OLDEST:
            raise OptionError(
                f"opset={self.opset!r}", where="Onnx", hint=f"a whole number from {_OLDEST}"
            )

    def require(self) -> str:
        """See `Exporter`."""
        try:
            with quiet():
                import onnx  # noqa: F401 - said now, not after minutes of tracing
                import onnxruntime
                import onnxscript  # noqa: F401
        except ImportError as error:
            raise missing((error.name or "onnx").partition(".")[0], "onnx", error) from error
        return f"onnxruntime {onnxruntime.__version__}"

    def write(self, model: nn.Module, example: Any, path: Path) -> tuple[str, ...]:
        """See `Exporter`."""
        self.require()
        import onnx
        from onnx_ir.passes import common as passes

        self._refuse_unknown(onnx.defs.onnx_opset_version())
        size = sum(t.nbytes for t in (*model.parameters(), *model.buffers()))
        if size > _MOST_BYTES:
            raise ModelError(
                f"{size / 1e9:.1f} GB of weights do not fit into one ONNX file", where="export",
                hint="OpenVino() and TorchProgram() have no such limit",
            )  # fmt: skip
        quantized = grids(model) if self.codes else {}
        traced = program(model, example, dynamic_batch=self.dynamic_batch)
        refuse_numbers(traced)
        with told("torch.onnx cannot express it", "another opset, or another format"):
            made = torch.onnx.export(
                traced,
                dynamo=True,
                opset_version=self.opset,
                external_data=False,
                optimize=False,
                verbose=False,
            )
            if made is None:
                raise ModelError("torch.onnx returned nothing", where="export")
            self._refuse_unknown(made.model.opset_imports[""])
            stored = store_codes(made.model, quantized)
            made.optimize()
            # lines of the user's code, with the paths of this machine
            passes.ClearMetadataAndDocStringPass()(made.model)
            proto = made.model_proto
            _name_batch(proto.graph)
            path.write_bytes(proto.SerializeToString())
        return stored

    def _refuse_unknown(self, most: int) -> None:
        """An opset that is too new is written as an older one, with no more than a line in the log."""
        if self.opset > most:
            raise ModelError(
                f"opset {self.opset} cannot be written here, {most} can", where="export",
                hint=f"Onnx(opset={most}), or any from {_OLDEST}",
            )  # fmt: skip

    def open(self, path: Path, threads: int = 1) -> Session:
        """See `Exporter`."""
        session, names, own = self._session(path, threads)

        def run(example: Any) -> list[Tensor]:
            with told("ONNX Runtime does not run it", "another format", own):
                return [torch.as_tensor(y) for y in session.run(None, _feed(names, example))]

        return run

    def bound(self, path: Path, example: Any, threads: int = 1) -> Callable[[], list[Tensor]]:
        """Load what `write` wrote for one example, which it runs on again and again.

        Inputs and outputs stay where they are, so that a call of a small network costs the network:
        handing over arrays and taking new ones takes some 25 millionths of a second, a quarter of what
        a small convolutional network takes for one image.

        Returns:
            What runs it; the tensors that it returns are written anew by every call.

        Raises:
            ModelError: the runtime refuses the file, or does not run it on the example.
        """
        session, names, own = self._session(path, threads)
        with told("ONNX Runtime does not run it", "another format", own):
            feed = _feed(names, example)
            held = [np.empty_like(np.asarray(y)) for y in session.run(None, feed)]
            bound = session.io_binding()
            for name, x in feed.items():
                bound.bind_cpu_input(name, np.ascontiguousarray(x).reshape(x.shape))
            for each, y in zip(session.get_outputs(), held, strict=True):
                bound.bind_output(each.name, "cpu", 0, y.dtype, y.shape, y.ctypes.data)
        found = [torch.from_numpy(y) for y in held]

        def run() -> list[Tensor]:
            session.run_with_iobinding(bound)
            return found

        return run

    def _session(self, path: Path, threads: int) -> tuple[Any, list[str], ModuleType]:
        """The file in ONNX Runtime, the names of its inputs, and where the errors are defined."""
        self.require()
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as own

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3  # what it cannot place is an error anyway
        # spinning threads would slow whatever is timed beside them
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        with told("ONNX Runtime refuses the file", "another opset, or another format", own):
            session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        return session, [each.name for each in session.get_inputs()], own


def _feed(names: Sequence[str], example: Any) -> dict[str, NDArray[Any]]:
    return {n: x.numpy() for n, x in zip(names, tensors(example), strict=True)}


def _name_batch(graph: Any) -> None:
    """Call the free dim "batch", where torch has a symbol of its own for it."""
    dims = [
        dim
        for value in (*graph.input, *graph.output, *graph.value_info)
        for dim in value.type.tensor_type.shape.dim
        if dim.dim_param
    ]
    symbol = next((dim.dim_param for dim in dims if dim.dim_param.isidentifier()), None)
    for dim in dims:
        if symbol is not None:
            dim.dim_param = re.sub(rf"\b{symbol}\b", "batch", dim.dim_param)

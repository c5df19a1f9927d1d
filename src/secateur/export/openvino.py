"""OpenVINO's intermediate representation, run by OpenVINO on the CPU in float32."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from secateur.export.exporter import Session
from secateur.export.faults import quiet, told
from secateur.export.program import program, refuse_numbers
from secateur.extras import missing
from secateur.types.call import batch_size, tensors


@dataclass(frozen=True, slots=True)
class OpenVino:
    """OpenVINO IR (.xml with its .bin), float32 throughout, run by OpenVINO on the CPU.

    No file system exchanges two files at once. So the older .xml goes first and the new one comes last:
    a kill leaves the older pair, the new pair, or a .bin without its .xml, which nothing loads and the
    next export replaces.

    Attributes:
        dynamic_batch: any number of samples, or that of the example alone.
    """

    name: ClassVar[str] = "openvino"
    ending: ClassVar[str] = ".xml"

    dynamic_batch: bool = True

    def require(self) -> str:
        """See `Exporter`."""
        try:
            with quiet():
                import openvino
        except ImportError as error:
            raise missing("openvino", "openvino", error) from error
        return f"openvino {openvino.__version__.partition('-')[0]}"

    def write(self, model: nn.Module, example: Any, path: Path) -> tuple[str, ...]:
        """See `Exporter`."""
        self.require()
        import openvino
        from openvino import frontend

        traced = program(model, example, dynamic_batch=self.dynamic_batch)
        refuse_numbers(traced)
        with told("OpenVINO cannot express it", "another format", frontend):
            made = openvino.convert_model(traced)
            size = batch_size(example) if self.dynamic_batch else None
            # it would leave more dims open than the program does, and plan for all of them
            made.reshape({i: _shape(x, size) for i, x in enumerate(tensors(example))})
            openvino.save_model(made, path, compress_to_fp16=False)
        return ()

    def open(self, path: Path, threads: int = 1) -> Session:
        """See `Exporter`."""
        self.require()
        import openvino
        from openvino import frontend

        wanted = {
            "INFERENCE_PRECISION_HINT": "f32",  # it would choose bfloat16 where the processor has it
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # pinned threads would share a core with others' work
        }
        with told("OpenVINO refuses the file", "another format", frontend):
            made = openvino.Core().compile_model(path, "CPU", wanted)
        request, count = made.create_infer_request(), len(made.outputs)

        def run(example: Any) -> list[Tensor]:
            with told("OpenVINO does not run it", "another format", frontend):
                found = request.infer([x.numpy() for x in tensors(example)])
                return [torch.from_numpy(found[i].copy()) for i in range(count)]

        return run


def _shape(tensor: Tensor, batch: int | None) -> list[int]:
    """Of one input; -1 is free."""
    shape = list(tensor.shape)
    if batch is not None and shape and shape[0] == batch:
        shape[0] = -1
    return shape

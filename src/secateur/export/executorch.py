"""ExecuTorch programs for phones and boards, their heavy operators run by XNNPACK."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from secateur.export.exporter import Session
from secateur.export.faults import quiet, told
from secateur.export.program import program, refuse_numbers
from secateur.extras import missing
from secateur.types.call import tensors


@dataclass(frozen=True, slots=True)
class ExecuTorch:
    """ExecuTorch (.pte) with XNNPACK, for the example's batch alone, run by its Python runtime."""

    name: ClassVar[str] = "executorch"
    ending: ClassVar[str] = ".pte"

    @property
    def dynamic_batch(self) -> bool:
        """Its memory is planned ahead: the batch is that of the example."""
        return False

    def require(self) -> str:
        """See `Exporter`."""
        try:
            with quiet():
                import executorch.exir
                import executorch.runtime  # noqa: F401
        except ImportError as error:
            raise missing("executorch", "executorch", error) from error
        return f"executorch {version('executorch')}"

    def write(self, model: nn.Module, example: Any, path: Path) -> tuple[str, ...]:
        """See `Exporter`."""
        self.require()
        with quiet():
            from executorch import exir
            from executorch.backends.xnnpack.partition import xnnpack_partitioner
            from executorch.exir import error as own

        traced = program(model, example, dynamic_batch=False)
        refuse_numbers(traced)
        with told("ExecuTorch cannot express it", "another format", own):
            lowered = exir.to_edge_transform_and_lower(
                traced, partitioner=[xnnpack_partitioner.XnnpackPartitioner()]
            )
            path.write_bytes(lowered.to_executorch().buffer)
        return ()

    def open(self, path: Path, threads: int = 1) -> Session:
        """See `Exporter`; how many threads it takes is its own affair."""
        self.require()
        from executorch import runtime

        with told("ExecuTorch refuses the file", "another format"):
            loaded = runtime.Runtime.get().load_program(path)
            method = loaded.load_method("forward")

        def run(example: Any) -> list[Tensor]:
            with told("ExecuTorch does not run it", "another format"):
                return [
                    y.clone() for y in method.execute([x.contiguous() for x in tensors(example)])
                ]

        return run

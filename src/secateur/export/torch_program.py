"""A `torch.export` program (.pt2): for PyTorch without the network's Python code."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from secateur.errors import ModelError
from secateur.export.exporter import Session
from secateur.export.faults import told
from secateur.export.program import program
from secateur.types.call import call
from secateur.types.outputs import output_tensors


@dataclass(frozen=True, slots=True)
class TorchProgram:
    """torch.export (.pt2), run by PyTorch without the network's code; no pickle is in it.

    Attributes:
        dynamic_batch: any number of samples, or that of the example alone.
    """

    name: ClassVar[str] = "torch"
    ending: ClassVar[str] = ".pt2"

    dynamic_batch: bool = True

    def require(self) -> str:
        """See `Exporter`."""
        return f"torch {torch.__version__}"

    def write(self, model: nn.Module, example: Any, path: Path) -> tuple[str, ...]:
        """See `Exporter`."""
        traced = program(model, example, dynamic_batch=self.dynamic_batch)
        # the example is what torch would pickle, and nobody needs it in the file
        traced.example_inputs = None
        with told("torch.export cannot save it", "another format"):
            torch.export.save(traced, path)
        return ()

    def open(self, path: Path, threads: int = 1) -> Session:
        """See `Exporter`; `threads` are torch's own, which belong to the process.

        Raises:
            ModelError: there is a pickle in the file: `torch.export.load` would run it.
        """
        _refuse_pickles(path)
        with told("torch.export cannot load it", "another format"):
            module = torch.export.load(path).module()

        def run(example: Any) -> list[Tensor]:
            with told("PyTorch does not run it", "another format"), torch.no_grad():
                return output_tensors(call(module, example))

        return run


def _refuse_pickles(path: Path) -> None:
    """`torch.export.load` has no weights_only: it unpickles what the archive calls a pickle.

    These are the sample inputs, unless they are empty, and payloads that their index says are pickled
    (tensor subclasses, script objects); plain tensors are raw bytes.
    """
    with (
        told("is no archive of torch.export", "another format", zipfile),
        zipfile.ZipFile(path) as z,
    ):
        for entry in z.infolist():
            inside = entry.filename.partition("/")[2]
            sample = inside.startswith("data/sample_inputs/") and entry.file_size > 0
            index = inside.endswith("_config.json") and inside.startswith("data/")
            config = json.loads(z.read(entry))["config"] if index else {}
            if sample or any(each["use_pickle"] for each in config.values()):
                raise ModelError(
                    f"the archive holds a pickle ({inside}), which is never loaded",
                    where="export",
                    hint="parameters and buffers must be plain tensors",
                )

"""PyTorch with torch.compile, which writes C++ and needs a compiler for it."""

from __future__ import annotations

import inspect
import os
import shutil
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from secateur.errors import MissingExtraError
from secateur.export import plain_copy, told
from secateur.runtime.runtime import Once
from secateur.runtime.threads import threads_of_torch
from secateur.types.call import call, cloned, run, to
from secateur.types.outputs import output_tensors


@dataclass(frozen=True, slots=True)
class TorchCompile:
    """torch.compile with the inductor, for the example's shapes alone."""

    name: ClassVar[str] = "compile"

    def require(self) -> str:
        """See `Runtime`."""
        compilers = (os.environ.get("CXX", ""), "g++", "clang++")
        if not any(shutil.which(name) for name in compilers):
            raise MissingExtraError(
                "torch.compile needs a C++ compiler, and none is found",
                hint="install g++ or clang++, or set CXX",
            )
        return f"torch {torch.__version__} compile"

    def load(self, model: nn.Module, example: Any, threads: int = 1) -> Once:
        """See `Runtime`."""
        self.require()
        network, given = plain_copy(model), cloned(to(example, device="cpu"))
        with torch.no_grad():
            run(network, cloned(given), "example")
        # Networks of one class share their code, and by default what is compiled for it: after eight
        # of them torch gives up, and runs the ninth uncompiled without a word.
        known = inspect.signature(torch.compile).parameters
        alone: dict[str, Any] = (
            {"isolate_recompiles": True} if "isolate_recompiles" in known else {}
        )
        with told("torch.compile cannot compile it", "another runtime"):
            compiled: Any = torch.compile(network, dynamic=False, **alone)

            def once() -> list[Tensor]:
                with torch.no_grad(), threads_of_torch(threads):
                    return output_tensors(call(compiled, given))

            once()
        return once

"""PyTorch as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from secateur.export import plain_copy
from secateur.runtime.runtime import Once
from secateur.runtime.threads import threads_of_torch
from secateur.types.call import call, cloned, run, to
from secateur.types.outputs import output_tensors


@dataclass(frozen=True, slots=True)
class TorchEager:
    """PyTorch without a compiler: what a network does without any export."""

    name: ClassVar[str] = "eager"

    def require(self) -> str:
        """See `Runtime`."""
        return f"torch {torch.__version__} eager"

    def load(self, model: nn.Module, example: Any, threads: int = 1) -> Once:
        """See `Runtime`."""
        network, given = plain_copy(model), cloned(to(example, device="cpu"))
        with torch.no_grad():
            run(network, cloned(given), "example")

        def once() -> list[Tensor]:
            with torch.no_grad(), threads_of_torch(threads):
                return output_tensors(call(network, given))

        return once

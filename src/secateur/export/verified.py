"""The written file against the network: same inputs, largest difference."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from secateur.errors import ModelError
from secateur.export.exporter import Session
from secateur.types.call import batch_size, cloned, run
from secateur.types.outputs import distance, in_double, largest, output_tensors


@dataclass(frozen=True, slots=True)
class Seen:
    """What a comparison saw; see `Exported`."""

    batches: tuple[int, ...]
    max_abs_diff: float
    max_abs_output: float


def compare(model: nn.Module, session: Session, inputs: Iterable[Any], what: str) -> Seen:
    """Run both on every input.

    Args:
        model: in eval mode, on the CPU.
        what: the runtime, for messages.

    Raises:
        DataError: the network does not run on an input.
        ModelError: the runtime does not, or returns other shapes.
    """
    batches, worst, scale = [], 0.0, 0.0
    for example in inputs:
        with torch.no_grad():
            wanted = output_tensors(run(model, cloned(example), "export"))
        found = session(cloned(example))
        if [y.shape for y in found] != [y.shape for y in wanted]:
            raise ModelError(
                f"{what} returns shapes {_shapes(found)}, the network {_shapes(wanted)}",
                where=f"export, batch of {batch_size(example)}",
                hint="dynamic_batch=False, if it is right for the example's own batch",
            )
        ours, theirs = in_double(wanted), in_double(found)
        worst, scale = max(worst, distance(ours, theirs)), max(scale, largest(ours))
        batches.append(batch_size(example))
    return Seen(tuple(batches), worst, scale)


def _shapes(outputs: Sequence[Tensor]) -> str:
    return ", ".join(str(tuple(y.shape)) for y in outputs) or "none"

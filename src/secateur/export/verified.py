"""The written file against the network: same inputs, the largest difference of every output."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from secateur.errors import ModelError
from secateur.export.exported import Gap
from secateur.export.exporter import Session
from secateur.types.call import batch_size, cloned, run
from secateur.types.outputs import distance, in_double, largest, output_tensors


@dataclass(frozen=True, slots=True)
class Seen:
    """What a comparison saw; see `Exported`.

    Attributes:
        dtypes: of the outputs, in PyTorch.
    """

    batches: tuple[int, ...]
    outputs: tuple[Gap, ...]
    dtypes: tuple[torch.dtype, ...]


def compare(model: nn.Module, session: Session, inputs: Iterable[Any], what: str) -> Seen:
    """Run both on every input.

    Args:
        model: in eval mode, on the CPU.
        what: the runtime, for messages.

    Raises:
        DataError: the network does not run on an input.
        ModelError: the runtime does not, or returns other shapes.
    """
    batches: list[int] = []
    worst: tuple[Gap, ...] = ()
    wanted: list[Tensor] = []
    for example in inputs:
        with torch.no_grad():
            wanted = output_tensors(run(model, cloned(example), "export"))
        found = gaps(session(cloned(example)), wanted, what, batch_size(example))
        worst = tuple(map(_wider, worst, found)) if batches else found
        batches.append(batch_size(example))
    return Seen(tuple(batches), worst, tuple(y.dtype for y in wanted))


def gaps(
    found: Sequence[Tensor], wanted: Sequence[Tensor], what: str, batch: int
) -> tuple[Gap, ...]:
    """Of every output on its own: a small one is not to be judged by a large one beside it.

    Args:
        found: the runtime's outputs.
        wanted: the network's, in PyTorch.
        what: the runtime, for messages.
        batch: how many samples it was, for messages.

    Raises:
        ModelError: the shapes differ.
    """
    if [y.shape for y in found] != [y.shape for y in wanted]:
        raise ModelError(
            f"{what} returns shapes {_shapes(found)}, the network {_shapes(wanted)}",
            where=f"export, batch of {batch}",
            hint="dynamic_batch=False, if it is right for the example's own batch"
            if len(found) == len(wanted)
            else "return tensors alone",
        )
    return tuple(
        Gap(distance([ours], [theirs]), largest([ours]), y.numel(), int(y.isfinite().sum()))
        for y, ours, theirs in zip(wanted, in_double(wanted), in_double(found), strict=True)
    )


def _wider(one: Gap, other: Gap) -> Gap:
    """The same output on two inputs."""
    return Gap(
        max(one.max_abs_diff, other.max_abs_diff),
        max(one.max_abs_output, other.max_abs_output),
        one.elements + other.elements,
        one.finite + other.finite,
    )


def _shapes(outputs: Sequence[Tensor]) -> str:
    return ", ".join(str(tuple(y.shape)) for y in outputs) or "none"

"""Outputs whose rows are the positions of one sample after another: found by turning the samples round.

Networks that route tokens make one row of each: (samples, positions, d) is viewed as (samples x
positions, d), and the router's output no longer tells one sample from the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from secateur.errors import DataError
from secateur.types.call import batch_size, cloned, mapped, run
from secateur.types.untouched import untouched

_CLOSE = 1e-4  # of the largest output, in the network's own dtype


def folded(model: nn.Module, example: Any, paths: Sequence[str]) -> set[str]:
    """Modules whose output (samples x positions, n) holds the samples one after the other.

    The network runs on the example and on its samples in reverse order. An example of one sample
    shows nothing.
    """
    try:
        samples = batch_size(example)
    except DataError:
        return set()
    if samples < 2:
        return set()
    turned = mapped(example, lambda t: t.flip(0) if t.dim() and len(t) == samples else t)
    first = _outputs(model, example, paths)
    rows = [path for path, out in first.items() if len(out) != samples and len(out) % samples == 0]
    if not rows:
        return set()
    try:
        second = _outputs(model, turned, rows)
    except DataError:  # not every tensor that is as long holds samples
        return set()
    return {
        path for path in rows if path in second and _is_turned(first[path], second[path], samples)
    }


def _is_turned(first: Tensor, second: Tensor, samples: int) -> bool:
    if first.shape != second.shape:
        return False
    wanted = first.unflatten(0, (samples, -1)).flip(0).flatten(0, 1)
    near = _CLOSE * float(first.abs().max())
    moved = float((first - second).abs().max()) > near  # else it shows nothing
    return moved and float((wanted - second).abs().max()) <= near


def _outputs(model: nn.Module, example: Any, paths: Sequence[str]) -> dict[str, Tensor]:
    """What modules that ran once returned, as matrices of rows."""
    found: dict[str, list[Tensor]] = {path: [] for path in paths}
    handles = [
        model.get_submodule(path).register_forward_hook(
            lambda _module, _args, out, path=path: found[path].append(out.detach().clone())
        )
        for path in paths
    ]
    try:
        with untouched(model), torch.no_grad():
            run(model, cloned(example), "example")
    finally:
        for handle in handles:
            handle.remove()
    return {path: outs[0] for path, outs in found.items() if len(outs) == 1 and outs[0].dim() == 2}

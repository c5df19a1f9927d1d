"""Scoring on several processes: each sees a part of the data, and all get the scores of the whole.

torch.distributed.init_process_group("gloo")                      # as under torchrun
states = observe(model, groups, my_part, saliencies, loss=loss)   # of secateur.saliency
scores = finish(all_reduce(states), groups, saliencies)           # the same on every rank
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor

from secateur.errors import ScoreError
from secateur.saliency import ROWS, States

_Place = tuple[str, str, str, tuple[int, ...], str]


def all_reduce(states: States) -> States:
    """The sum of all ranks' states, on every rank: one message of float64 numbers, and all rows.

    Raises:
        ScoreError: there is no process group, or the ranks scored different things.
    """
    if not dist.is_available() or not dist.is_initialized():
        raise ScoreError(
            "there is no process group",
            hint="run under torchrun, and call torch.distributed.init_process_group first",
        )
    places = [place for place, _ in _entries(states)]
    everywhere: list[list[_Place] | None] = [None] * dist.get_world_size()
    dist.all_gather_object(everywhere, places)
    different = [rank for rank, found in enumerate(everywhere) if found != places]
    if different:
        raise ScoreError(
            f"rank {dist.get_rank()} and rank {different[0]} scored different things",
            hint="give every rank the same groups and saliencies",
        )
    tensors = [tensor for place, tensor in _entries(states) if not _rows(place)]
    whole = torch.cat([tensor.double().reshape(-1) for tensor in tensors] or [torch.empty(0)])
    dist.all_reduce(whole)
    parts = iter(whole.split([tensor.numel() for tensor in tensors]))
    return {
        name: {
            group: {
                key: _gathered(tensor) if key.endswith(ROWS) else next(parts).reshape(tensor.shape)
                for key, tensor in state.items()
            }
            for group, state in by_group.items()
        }
        for name, by_group in states.items()
    }


def _entries(states: States) -> Iterator[tuple[_Place, Tensor]]:
    for name, by_group in states.items():
        for group, state in by_group.items():
            for key, tensor in state.items():
                shape = tensor.shape[1:] if key.endswith(ROWS) else tensor.shape
                yield (name, group, key, tuple(shape), str(tensor.dtype)), tensor


def _rows(place: _Place) -> bool:
    return place[2].endswith(ROWS)


def _gathered(mine: Tensor) -> Tensor:
    """The rows of all ranks, one rank after the other; each may have another number of them."""
    counts = [torch.zeros(1, dtype=torch.int64, device=mine.device) for _ in _ranks()]
    dist.all_gather(counts, torch.tensor([len(mine)], device=mine.device))
    most = int(torch.cat(counts).max())
    padded = mine.new_zeros(most, *mine.shape[1:])
    padded[: len(mine)] = mine
    everywhere = [torch.empty_like(padded) for _ in _ranks()]
    dist.all_gather(everywhere, padded)
    return torch.cat([rows[: int(n)] for rows, n in zip(everywhere, counts, strict=True)])


def _ranks() -> range:
    return range(dist.get_world_size())

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
from secateur.saliency import State, States

_Place = tuple[str, str, str, tuple[int, ...]]


def all_reduce(states: States) -> States:
    """The sum of all ranks' states, on every rank: one message of float64 numbers.

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
    tensors = [tensor for _, tensor in _entries(states)]
    whole = torch.cat([tensor.double().reshape(-1) for tensor in tensors] or [torch.empty(0)])
    dist.all_reduce(whole)
    parts = iter(whole.split([tensor.numel() for tensor in tensors]))
    return {
        name: {group: _filled(state, parts) for group, state in by_group.items()}
        for name, by_group in states.items()
    }


def _entries(states: States) -> Iterator[tuple[_Place, Tensor]]:
    for name, by_group in states.items():
        for group, state in by_group.items():
            for key, tensor in state.items():
                yield (name, group, key, tuple(tensor.shape)), tensor


def _filled(state: State, parts: Iterator[Tensor]) -> State:
    return {key: next(parts).reshape(tensor.shape) for key, tensor in state.items()}

"""What is left of one network, for whoever asks: those who ask for the same masks share it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from secateur.compose.candidates import Masks
from secateur.compose.replay.remaining import Remaining, remaining
from secateur.types.group import Groups


class Cuts:
    """Shrunk copies of a network, the last one kept.

    With `channels_last` they and the images for them are laid out with the channels last: on a CPU
    convolutions are faster so.
    """

    def __init__(self, model: nn.Module, groups: Groups, *, channels_last: bool = False) -> None:
        self.model, self.groups, self.channels_last = model, groups, channels_last
        self._last: tuple[frozenset[str], dict[str, Tensor], Remaining] | None = None

    def __call__(self, masks: Masks, whole: Collection[str] = ()) -> Remaining:
        """The network under these masks; groups in `whole` are only masked in it.

        The model must not have changed since the last call.

        Raises:
            PlanError: the masks do not fit the network.
            ModelError: the network cannot be copied.
        """
        if self._last is not None and self._last[0] == frozenset(whole):
            _, before, left = self._last
            if all(torch.equal(before[name], mask) for name, mask in masks.items()):
                return left
        left = remaining(self.model, self.groups, masks, whole)
        for tensor in (*left.network.parameters(), *left.network.buffers()):
            tensor.data = self.laid_out(tensor.data)
        self._last = frozenset(whole), {name: mask.clone() for name, mask in masks.items()}, left
        return left

    def laid_out(self, example: Any) -> Any:
        """What the copies are called with, images in their layout."""
        if isinstance(example, Tensor):
            if example.dim() != 4 or not self.channels_last:
                return example
            # not `contiguous`, which leaves strides as they are where a kernel or its channels are single
            return example.clone(memory_format=torch.channels_last)
        if isinstance(example, Mapping):
            return {key: self.laid_out(value) for key, value in example.items()}
        if type(example) in (tuple, list):
            return type(example)(self.laid_out(value) for value in example)
        return example

    def everything(self) -> Remaining:
        """The whole network."""
        return self({g.name: torch.ones(g.size, dtype=torch.bool) for g in self.groups})

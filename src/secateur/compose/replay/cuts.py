"""What is left of one network, for whoever asks: those who ask for the same masks share it."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn

from secateur.compose.candidates import Masks
from secateur.compose.replay.remaining import Remaining, remaining
from secateur.types.group import Groups


class Cuts:
    """Shrunk copies of a network, the last one kept; on a CPU with images laid out channels last."""

    def __init__(self, model: nn.Module, groups: Groups) -> None:
        self.model, self.groups = model, groups
        self._last: tuple[frozenset[str], dict[str, torch.Tensor], Remaining] | None = None

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
            if tensor.dim() == 4 and tensor.device.type == "cpu":
                tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
        self._last = frozenset(whole), {name: mask.clone() for name, mask in masks.items()}, left
        return left

    def everything(self) -> Remaining:
        """The whole network."""
        return self({g.name: torch.ones(g.size, dtype=torch.bool) for g in self.groups})

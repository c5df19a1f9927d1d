"""Runs of a network without one unit, each from where the unit begins to matter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.compose.replay.calls import Call, Forward
from secateur.compose.replay.recording import STRAYED, Inputs, Recording
from secateur.compose.replay.start import Start, skipped
from secateur.errors import ModelError
from secateur.types.group import Member


class Rerun:
    """One unit's absence: what is known beforehand, and the parameters to hide meanwhile."""

    def __init__(
        self,
        network: nn.Module,
        calls: Sequence[Call],
        start: Start,
        unit: int,
        inputs: Inputs | None,
    ) -> None:
        self._calls, self._start, self._unit, self._inputs = calls, start, unit, inputs
        self.skipped = frozenset(skipped(calls, start))
        self._hidden = [_slices(network, member, unit) for member in start.hidden]
        self._layer: nn.Module | None = None
        if start.reader is not None and inputs is not None:
            self._layer = network.get_submodule(calls[start.first].path)
            indices = (start.reader.unit_of == unit).nonzero().squeeze(1)
            weight: Tensor = self._layer.weight  # type: ignore[assignment]
            self._columns = weight.detach()[:, indices.to(weight.device)]
        self._next = 0

    @contextmanager
    def hiding(self) -> Iterator[None]:
        """The unit's parameters are zero for a while."""
        try:
            for tensor, index, _ in self._hidden:
                tensor[index] = 0
            yield
        finally:
            for tensor, index, values in self._hidden:
                tensor[index] = values

    def silent(self, recording: Recording, rows: Tensor) -> bool:
        """Whether nobody but one linear layer reads the unit, and it reads zeros in these rows."""
        if self._layer is None or self._inputs is None or self._start.hidden:
            return False
        kept = recording.input(self._start.name, rows)
        return not bool(self._inputs.share(kept, self._unit).any())

    def begin(self, recording: Recording, rows: Tensor) -> None:
        """The network is about to run on these rows."""
        self._next, self._recording, self._rows = 0, recording, rows

    def handle(
        self, path: str, forward: Forward, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """One call: as recorded, or run.

        Raises:
            ModelError: the run is not the one whose calls are known.
        """
        number, first = self._next, self._start.first
        if number > first:  # from here on everything runs
            return forward(*args, **kwargs)
        if self._calls[number].path != path:
            raise ModelError(STRAYED, where=path)
        if number == first and self._layer is not None:
            self._next = first + 1
            return self._less(self._layer)
        if number not in self.skipped:
            self._next += 1
            return forward(*args, **kwargs)
        self._next = self._calls[number].end
        out = self._recording.output(number, self._rows)
        shown = self._start.zeroed.get(number)
        if shown is None:
            return out
        indices = (shown.unit_of == self._unit).nonzero().squeeze(1).to(out.device)
        return out.clone().index_fill_(shown.dim, indices, 0)

    def _less(self, layer: nn.Module) -> Tensor:
        """The recorded output of the first layer that reads the unit, less the unit's share in it."""
        number = self._start.first
        out: Tensor = self._recording.output(number, self._rows)
        if self._inputs is None or self._columns.shape[1] == 0:  # it reads other units of the group
            return out
        kept = self._recording.input(self._start.name, self._rows)
        share = self._inputs.share(kept, self._unit)
        if isinstance(layer, nn.Linear):
            return out - F.linear(share, self._columns)
        convolution: Any = layer
        options = convolution.stride, convolution.padding, convolution.dilation
        taken: Tensor = _CONVOLVE[share.dim()](share, self._columns, None, *options)
        return out - taken


_CONVOLVE: dict[int, Any] = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}  # by the dims of the input

_Slices = tuple[Tensor, tuple[Any, ...], Tensor]


def _slices(network: nn.Module, member: Member, unit: int) -> _Slices:
    """(tensor, index of the unit's elements in it, their values)."""
    path, _, last = member.name.rpartition(".")
    tensor: Tensor = getattr(network.get_submodule(path), last).detach()
    places = (member.unit_of == unit).nonzero().squeeze(1)
    sizes = tuple(member.shape[dim] for dim in member.dims)
    each = iter(torch.unravel_index(places.to(tensor.device), sizes))
    index = tuple(next(each) if d in member.dims else slice(None) for d in range(tensor.dim()))
    return tensor, index, tensor[index].clone()

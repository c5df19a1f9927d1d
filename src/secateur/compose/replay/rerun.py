"""Runs of a network without one unit, each from where the unit begins to matter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.compose.replay.calls import Call, Forward
from secateur.compose.replay.folds import Folds
from secateur.compose.replay.recording import STRAYED, Inputs, Recording
from secateur.compose.replay.start import Start, skipped
from secateur.errors import ModelError
from secateur.types.group import Member


class Rerun:
    """Runs without units of one group: what is known beforehand, and what to hide meanwhile."""

    def __init__(
        self,
        network: nn.Module,
        calls: Sequence[Call],
        start: Start,
        inputs: Inputs | None,
        folds: Folds,
    ) -> None:
        self._network, self._calls, self._start, self._inputs = network, calls, start, inputs
        self._folds = folds
        holders = (folds.layer_of(m.name.rpartition(".")[0]) for m in start.hidden)
        self._folded = frozenset(layer for layer in holders if layer is not None)
        self._skipped = frozenset(skipped(calls, start))
        self._layer: nn.Module | None = None
        if start.reader is not None and inputs is not None:
            self._layer = network.get_submodule(calls[start.first].path)
        self._columns: dict[int, Tensor] = {}
        self._slices: dict[tuple[Member, int], _Slice] = {}
        self._units: Sequence[int] = ()
        self._next = 0

    @property
    def stacks(self) -> bool:
        """Whether runs without one unit each can be one: only if no parameter need be hidden."""
        return self._layer is not None and not self._start.hidden

    @contextmanager
    def without(self, units: Sequence[int], recording: Recording, rows: Tensor) -> Iterator[None]:
        """The network is run on these rows as often as there are units, one after the other.

        In each part of the batch one unit is away. Several units need a group that `stacks`.
        """
        self._units, self._recording, self._rows, self._next = units, recording, rows, 0
        hidden = [self._slice(member, unit) for member in self._start.hidden for unit in units]
        before: list[Tensor] = []
        try:
            before.extend(part.hide() for part in hidden)
            with self._folds.changed(self._folded):
                yield
        finally:
            # parts may overlap: backwards, so that each finds what it left
            for part, values in reversed(list(zip(hidden, before, strict=False))):
                part.restore(values)

    def _slice(self, member: Member, unit: int) -> _Slice:
        """The part of a tensor that is the unit's share of a member."""
        if (member, unit) not in self._slices:
            self._slices[member, unit] = _slice(self._network, member, unit)
        return self._slices[member, unit]

    def silent(self, unit: int, recording: Recording, rows: Tensor) -> bool:
        """Whether nobody but one linear layer reads the unit, and it reads zeros in these rows."""
        if not self.stacks or self._inputs is None:
            return False
        kept = recording.input(self._start.name, rows)
        return not bool(self._inputs.share(kept, unit).any())

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
        if number not in self._skipped:
            self._next += 1
            return forward(*args, **kwargs)
        self._next = self._calls[number].end
        out = self._recording.output(number, self._rows)
        shown = self._start.zeroed.get(number)
        if shown is None:
            return _repeated(out, len(self._units))
        parts = [out.clone() for _ in self._units]
        for part, unit in zip(parts, self._units, strict=True):
            indices = (shown.unit_of == unit).nonzero().squeeze(1).to(part.device)
            part.index_fill_(shown.dim, indices, 0)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _less(self, layer: nn.Module) -> Tensor:
        """The recorded output of the first layer that reads the units, less the share of each."""
        out: Tensor = self._recording.output(self._start.first, self._rows)
        parts = [out - self._taken(layer, unit) for unit in self._units]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _taken(self, layer: Any, unit: int) -> Tensor | float:
        """What one unit adds to the output of a linear layer."""
        columns = self._columns_of(layer, unit)
        if self._inputs is None or columns.shape[1] == 0:  # it reads other units of the group
            return 0.0
        kept = self._recording.input(self._start.name, self._rows)
        share = self._inputs.share(kept, unit)
        if isinstance(layer, nn.Linear):
            return F.linear(share, columns)
        options = layer.stride, layer.padding, layer.dilation
        taken: Tensor = _CONVOLVE[share.dim()](share, columns, None, *options)
        return taken

    def _columns_of(self, layer: Any, unit: int) -> Tensor:
        """The part of the layer's weight that reads the unit."""
        if unit not in self._columns and self._start.reader is not None:
            indices = (self._start.reader.unit_of == unit).nonzero().squeeze(1)
            folded = self._folds.weight(self._calls[self._start.first].path)
            weight: Tensor = layer.weight.detach() if folded is None else folded
            self._columns[unit] = weight[:, indices.to(weight.device)]
        return self._columns[unit]


def _repeated(out: Any, times: int) -> Any:
    """An output one time after the other along the samples."""
    if times == 1:
        return out
    if isinstance(out, Tensor):
        return torch.cat([out] * times)
    if isinstance(out, dict):
        return {key: _repeated(part, times) for key, part in out.items()}
    return type(out)(_repeated(part, times) for part in out)


_CONVOLVE: dict[int, Any] = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}  # by the dims of the input


class _Slice:
    """A part of a tensor: what it holds can be hidden, and put back.

    Args:
        index: for every dim a slice, or the places in it.
    """

    def __init__(self, tensor: Tensor, index: tuple[Any, ...]) -> None:
        self._tensor, self._index = tensor, index
        self._view: Tensor | None = None
        if all(isinstance(i, slice) or i.numel() == 1 for i in index):
            # one row or column is a view: to go through index tensors takes ten times as long
            rows = (i if isinstance(i, slice) else slice(int(i), int(i) + 1) for i in index)
            self._view = tensor[tuple(rows)]

    def hide(self) -> Tensor:
        """Zero it; returns what was there."""
        before: Tensor = (self._tensor[self._index] if self._view is None else self._view).clone()
        self._write(0)
        return before

    def restore(self, values: Tensor) -> None:
        """Write what `hide` has returned."""
        self._write(values)

    def _write(self, values: Tensor | int) -> None:
        if self._view is None:
            self._tensor[self._index] = values
        else:
            self._view[...] = values


def _slice(network: nn.Module, member: Member, unit: int) -> _Slice:
    path, _, last = member.name.rpartition(".")
    tensor: Tensor = getattr(network.get_submodule(path), last).detach()
    places = (member.unit_of == unit).nonzero().squeeze(1)
    sizes = tuple(member.shape[dim] for dim in member.dims)
    found = (places,) if len(sizes) == 1 else torch.unravel_index(places, sizes)
    each = iter([index.to(tensor.device) for index in found])
    return _Slice(
        tensor,
        tuple(next(each) if d in member.dims else slice(None) for d in range(tensor.dim())),
    )

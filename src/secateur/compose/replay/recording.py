"""What one run over all samples gave, piece by piece, and any rows of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from secateur.compose.replay.calls import Call, Forward, counts, plain
from secateur.errors import ModelError

STRAYED = "takes another way through its modules than before"


class Recording:
    """Outputs of some calls, and parts of the inputs of some, for all samples.

    Samples come in pieces of equal length, the last one may be shorter; `handle` listens to the run
    of each in turn, between `begin` and the next.
    """

    def __init__(
        self, calls: Sequence[Call], outputs: Collection[int], inputs: Mapping[str, Inputs]
    ) -> None:
        self._calls, self._wanted, self._parts = calls, frozenset(outputs), inputs
        self._outputs: dict[int, list[Any]] = {number: [] for number in self._wanted}
        self._inputs: dict[str, list[Tensor]] = {name: [] for name in inputs}
        self._readers: dict[int, list[str]] = {}  # call → whose parts of its input are kept
        for name, part in inputs.items():
            self._readers.setdefault(part.number, []).append(name)
        self._picked: dict[tuple[int | str, int], Any] = {}
        self._next = self._samples = self._piece = 0

    def begin(self, samples: int) -> None:
        """A piece of so many samples is about to run."""
        self._next, self._samples = 0, samples
        self._piece = self._piece or samples

    def handle(
        self, path: str, forward: Forward, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """One call of the run.

        Raises:
            ModelError: the run is not the one whose calls are known.
        """
        number = self._next
        self._next += 1
        if number >= len(self._calls) or self._calls[number].path != path:
            raise ModelError(STRAYED, where=path)
        for name in self._readers.get(number, ()):
            self._inputs[name].append(self._parts[name].of(args, self._samples))
        out = forward(*args, **kwargs)
        if self._next != self._calls[number].end:
            raise ModelError(STRAYED, where=path)
        if number in self._wanted:
            if not (plain(out) and counts(out, self._samples)):
                raise ModelError("returns something else than before", where=path)
            self._outputs[number].append(out)
        return out

    def output(self, number: int, rows: Tensor, key: int) -> Any:
        """What a call returned for some rows, ascending; a key stands for the same rows every time."""
        if (number, key) not in self._picked:
            self._picked[number, key] = _picked(self._outputs[number], rows, self._piece)
        return self._picked[number, key]

    def input(self, name: str, rows: Tensor, key: int) -> Tensor:
        """The part of a linear layer's input that was kept under this name."""
        if (name, key) not in self._picked:
            self._picked[name, key] = _picked(self._inputs[name], rows, self._piece)
        found: Tensor = self._picked[name, key]
        return found


class Inputs:
    """Which part of the input of a linear layer's call to keep: the indices of a few units."""

    def __init__(self, number: int, dim: int, unit_of: Tensor, units: Collection[int]) -> None:
        self.number = number  # of the call
        found = [(unit_of == unit).nonzero().squeeze(1) for unit in units]
        self.dim = dim
        self.indices = torch.cat(found)
        self.place: dict[int, tuple[int, int]] = {}
        start = 0
        for unit, indices in zip(units, found, strict=True):
            self.place[unit] = (start, indices.numel())
            start += indices.numel()
        # The layout of a tensor with one channel could not be told, and would be guessed wrong.
        self._stored = self.indices if start > 1 else self.indices.repeat(2)

    def of(self, args: tuple[Any, ...], samples: int) -> Tensor:
        """The part of the only argument.

        Raises:
            ModelError: there is another argument, or it does not count the samples.
        """
        if len(args) != 1 or not (isinstance(args[0], Tensor) and counts(args[0], samples)):
            raise ModelError("is called in another way than before", where="linear layer")
        part = args[0].index_select(self.dim, self._stored.to(args[0].device))
        return _like(part, args[0])

    def share(self, kept: Tensor, unit: int) -> Tensor:
        """One unit's part of what was kept."""
        start, length = self.place[unit]
        return kept.narrow(self.dim, start, length)


def _picked(pieces: Sequence[Any], rows: Tensor, length: int) -> Any:
    """Rows of what is spread over pieces."""
    first = pieces[0]
    if isinstance(first, Tensor):
        numbers = rows.div(length, rounding_mode="floor")
        parts = [
            _rows(pieces[number], rows[numbers == number] - number * length)
            for number in numbers.unique().tolist()
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)
    if isinstance(first, dict):
        return {key: _picked([piece[key] for piece in pieces], rows, length) for key in first}
    return type(first)(
        _picked([piece[i] for piece in pieces], rows, length) for i in range(len(first))
    )


def _rows(tensor: Tensor, rows: Tensor) -> Tensor:
    """Some rows in the layout of the whole; torch's own selection would change it and crawl."""
    if rows.numel() == len(tensor):
        return tensor
    rows = rows.to(tensor.device)
    if _channels_last(tensor):
        return tensor.movedim(1, -1).index_select(0, rows).movedim(-1, 1)
    return tensor.index_select(0, rows)


def _like(tensor: Tensor, other: Tensor) -> Tensor:
    if _channels_last(other):
        return tensor.contiguous(memory_format=torch.channels_last)
    return tensor.contiguous()


def _channels_last(tensor: Tensor) -> bool:
    return tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)

"""What one run over all samples gave, and any rows of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from secateur.compose.replay.calls import Call, Forward, counts, plain
from secateur.errors import ModelError

STRAYED = "takes another way through its modules than before"


class Store:
    """Memory for recordings, used again by the next one: to ask for fresh memory takes longer."""

    def __init__(self) -> None:
        self._flat: dict[object, Tensor] = {}

    def rows(self, name: object, samples: int, like: Tensor) -> Tensor:
        """Uninitialised, for so many samples, else of the shape, kind and layout of `like`."""
        shape = (samples, *like.shape[1:])
        key = (name, like.dtype, like.device)
        flat = self._flat.get(key)
        size = samples * (like.numel() // max(len(like), 1))
        if flat is None or flat.numel() < size:
            flat = self._flat[key] = like.new_empty(size)
        if not _channels_last(like):
            return flat[:size].view(shape)
        return flat[:size].view(samples, *shape[2:], shape[1]).movedim(-1, 1)


class Recording:
    """Outputs of some calls, and parts of the inputs of some, for all samples.

    Samples come in pieces; `handle` listens to the run of each in turn, after `begin`.
    """

    def __init__(
        self,
        calls: Sequence[Call],
        samples: int,
        outputs: Collection[int],
        inputs: Mapping[str, Inputs],
        store: Store,
    ) -> None:
        self._calls, self._samples, self._store = calls, samples, store
        self._wanted, self._parts = frozenset(outputs), inputs
        self._readers: dict[int, list[str]] = {}  # call → whose parts of its input are kept
        for name, part in inputs.items():
            self._readers.setdefault(part.number, []).append(name)
        self._kept: dict[int | str, Any] = {}
        self._places: dict[int, tuple[int, Tensor]] = {}  # of rows that were asked for, by identity
        self._picked: dict[tuple[int | str, int], Any] = {}
        self._next = self._first = self._length = 0

    def begin(self, length: int) -> None:
        """The next piece, of so many samples, is about to run."""
        self._next, self._first, self._length = 0, self._first + self._length, length

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
            self._keep(name, self._parts[name].of(args, self._length))
        out = forward(*args, **kwargs)
        if self._next != self._calls[number].end:
            raise ModelError(STRAYED, where=path)
        if number in self._wanted:
            if not (plain(out) and counts(out, self._length)):
                raise ModelError("returns something else than before", where=path)
            self._keep(number, out)
        return out

    def output(self, number: int, rows: Tensor) -> Any:
        """What a call returned for some rows.

        The same rows are picked once: who asks for them again must give the same tensor.
        """
        return self._pick(number, rows)

    def input(self, name: str, rows: Tensor) -> Tensor:
        """The part of a linear layer's input that was kept under this name."""
        found: Tensor = self._pick(name, rows)
        return found

    def _pick(self, name: int | str, rows: Tensor) -> Any:
        place, _ = self._places.setdefault(id(rows), (len(self._places), rows))
        if (name, place) not in self._picked:
            room = self._room((name, place), self._kept[name], len(rows))
            self._picked[name, place] = room
            _pick(self._kept[name], rows, room)
        return self._picked[name, place]

    def _keep(self, name: int | str, value: Any) -> None:
        if self._first == 0:
            self._kept[name] = self._room((name,), value, self._samples)
        self._copy(self._kept[name], value, str(name))

    def _room(self, name: tuple[object, ...], value: Any, samples: int) -> Any:
        """Rows for so many samples, in containers as those of the value."""
        if isinstance(value, Tensor):
            return self._store.rows(name, samples, value)
        if isinstance(value, dict):
            return {key: self._room((*name, key), v, samples) for key, v in value.items()}
        return type(value)(self._room((*name, i), v, samples) for i, v in enumerate(value))

    def _copy(self, room: Any, value: Any, where: str) -> None:
        if isinstance(room, Tensor) and isinstance(value, Tensor):
            if room.shape[1:] != value.shape[1:] or room.dtype != value.dtype:
                raise ModelError("returns other shapes than before", where=where)
            room.narrow(0, self._first, self._length).copy_(value)
            return
        if type(room) is not type(value) or len(room) != len(value):
            raise ModelError("returns something else than before", where=where)
        for key in room if isinstance(room, dict) else range(len(room)):
            self._copy(room[key], value[key], where)


class Inputs:
    """Which part of the input of a linear layer's call to keep: the indices of a few units."""

    def __init__(self, number: int, dim: int, unit_of: Tensor, units: Collection[int]) -> None:
        self.number, self.dim = number, dim  # of the call, and of its input
        found = [(unit_of == unit).nonzero().squeeze(1) for unit in units]
        self._indices = torch.cat(found)
        self._place: dict[int, tuple[int, int]] = {}
        start = 0
        for unit, indices in zip(units, found, strict=True):
            self._place[unit] = (start, indices.numel())
            start += indices.numel()
        # The layout of a tensor with one channel could not be told, and would be guessed wrong.
        self._indices = self._indices if start > 1 else self._indices.repeat(2)

    def of(self, args: tuple[Any, ...], samples: int) -> Tensor:
        """The part of the only argument.

        Raises:
            ModelError: there is another argument, or it does not count the samples.
        """
        if len(args) != 1 or not (isinstance(args[0], Tensor) and counts(args[0], samples)):
            raise ModelError("is called in another way than before", where="linear layer")
        whole, indices = args[0], self._indices.to(args[0].device)
        if _channels_last(whole) and self.dim == 1:
            return whole.movedim(1, -1).index_select(-1, indices).movedim(-1, 1)
        return whole.index_select(self.dim, indices)

    def share(self, kept: Tensor, unit: int) -> Tensor:
        """One unit's part of what was kept."""
        start, length = self._place[unit]
        return kept.narrow(self.dim, start, length)


def _pick(kept: Any, rows: Tensor, room: Any) -> None:
    """Copy some rows into room for them; torch selects fast only where channels are where they lie."""
    if not isinstance(kept, Tensor):
        for key in kept if isinstance(kept, dict) else range(len(kept)):
            _pick(kept[key], rows, room[key])
        return
    rows = rows.to(kept.device)
    if _channels_last(kept):
        kept, room = kept.movedim(1, -1), room.movedim(1, -1)
    torch.index_select(kept, 0, rows, out=room)


def _channels_last(tensor: Tensor) -> bool:
    last = tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return last and not tensor.is_contiguous()

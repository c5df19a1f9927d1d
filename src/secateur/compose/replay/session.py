"""One network and one set of samples: losses of any rows, with any one unit away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from secateur.compose.pool import Pool, sample_losses
from secateur.compose.replay.calls import Call, intercepted
from secateur.compose.replay.recording import Inputs, Recording
from secateur.compose.replay.remaining import Remaining
from secateur.compose.replay.rerun import Rerun
from secateur.compose.replay.start import Start, skipped, start_of, whole_run
from secateur.errors import DataError
from secateur.types.call import device_of, run
from secateur.types.loss import Loss, loss_of

PROBE = 3  # samples that show which calls a run is made of


class Session:
    """Runs the network as it is on all rows, keeps what candidates need, and runs those.

    Args:
        left: the network; it is restored after every run.
        calls: of its runs.
        units: group name → which units of it, as the network numbers them, will be asked for.
        rows: of the pool; from here on they are called 0, 1, 2, ...
        piece: how many samples run at a time.
        memory: bytes that may be kept; what does not fit is computed again for every candidate.
    """

    def __init__(
        self,
        left: Remaining,
        calls: Sequence[Call],
        units: Mapping[str, Sequence[int]],
        samples: tuple[Pool, Tensor],
        loss: Loss,
        piece: int,
        memory: int,
    ) -> None:
        self._network, self._calls, self._loss = left.network, calls, loss
        self._pool, self._rows = samples
        self._device, self._piece = device_of(left.network), piece
        wanted = [start_of(left.network, calls, left.groups[name]) for name in units]
        starts = {s.name: s for s in _affordable(calls, wanted, memory // self._rows.numel())}
        inputs = {
            name: Inputs(_input_dim(left.network, calls[s.first]), s.reader.unit_of, units[name])
            for name, s in starts.items()
            if s.reader is not None
        }
        self._recording = Recording(
            calls, _outputs(calls, starts.values()), {starts[n].first: i for n, i in inputs.items()}
        )
        self._reruns = {
            (name, unit): Rerun(left.network, calls, starts[name], unit, inputs.get(name))
            for name in units
            for unit in units[name]
        }
        self._batches: dict[int, tuple[Any, Tensor]] = {}
        self.present = self._record()

    def losses(self, group: str, unit: int, rows: Tensor, key: int) -> Tensor:
        """Losses of single samples without one unit, float64 (rows,).

        Args:
            rows: ascending.
            key: stands for these rows every time.

        Raises:
            DataError: a loss is not finite.
            ModelError: the network goes another way for these samples.
        """
        rerun = self._reruns[group, unit]
        if rerun.silent(self._recording, rows, key):
            return self.present[rows]
        if key not in self._batches:
            self._batches[key] = self._batch(rows)
        x, y = self._batches[key]
        rerun.begin(self._recording, rows, key)
        where = f"{group}, unit {unit} of those left"
        with torch.no_grad(), rerun.hiding(), intercepted(self._network, rerun.handle):
            return sample_losses(run(self._network, x, where), y, self._loss, where)

    def silent(self, group: str, unit: int) -> bool:
        """Whether the unit is read nowhere but by one linear layer, and is zero there for all samples."""
        everything = torch.arange(self._rows.numel())
        return self._reruns[group, unit].silent(self._recording, everything, -1)

    def _record(self) -> Tensor:
        """Losses of all rows with all units there.

        Raises:
            DataError: the loss of a batch is not the mean of its samples' losses, or not finite.
        """
        found = []
        with torch.no_grad(), intercepted(self._network, self._recording.handle):
            for rows in torch.arange(self._rows.numel()).split(self._piece):
                x, y = self._batch(rows)
                self._recording.begin(rows.numel())
                out = run(self._network, x, "present network")
                found.append(sample_losses(out, y, self._loss, "present network"))
                check_mean(float(loss_of(out, y, self._loss, "loss")), found[-1])
        return torch.cat(found)

    def _batch(self, rows: Tensor) -> tuple[Any, Tensor]:
        x, y = self._pool.batch(self._rows[rows], self._device)
        return laid_out(x), y


def check_mean(mean: float, losses: Tensor) -> None:
    """A batch's loss must be the mean of its samples' losses.

    Raises:
        DataError: it is not.
    """
    expected = float(losses.mean())
    if abs(mean - expected) > 1e-4 * max(1.0, abs(expected)):
        raise DataError("the loss of a batch is not the mean over its samples", where="loss")


def laid_out(example: Any) -> Any:
    """Images with their channels last: convolutions on a CPU are faster so."""
    if isinstance(example, Tensor):
        images = example.dim() == 4 and example.device.type == "cpu"
        return example.contiguous(memory_format=torch.channels_last) if images else example
    if isinstance(example, Mapping):
        return {key: laid_out(value) for key, value in example.items()}
    if type(example) in (tuple, list):
        return type(example)(laid_out(value) for value in example)
    return example


def _outputs(calls: Sequence[Call], starts: Any) -> set[int]:
    """Calls whose outputs are needed."""
    found: set[int] = set()
    for start in starts:
        found.update(skipped(calls, start))
        if start.reader is not None:
            found.add(start.first)
    return found


def _affordable(calls: Sequence[Call], starts: Sequence[Start], memory: int) -> list[Start]:
    """Starts for which what is kept of each sample fits in the memory; the others reuse nothing."""
    found, kept = [], set[int]()
    sizes = {id(start): sum(calls[i].size for i in _outputs(calls, [start])) for start in starts}
    for start in sorted(starts, key=lambda start: sizes[id(start)]):
        more = kept | _outputs(calls, [start])
        fits = sum(calls[number].size for number in more) <= memory
        kept = more if fits else kept
        found.append(start if fits else whole_run(start.group))
    return found


def _input_dim(network: nn.Module, call: Call) -> int:
    """The dim of a linear layer's input that its weight sums over."""
    return -1 if isinstance(network.get_submodule(call.path), nn.Linear) else 1

"""One network and one set of samples: losses of any rows, with any one unit away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from secateur.compose.candidates import Candidate
from secateur.compose.pool import sample_losses
from secateur.compose.replay.calls import Call, intercepted
from secateur.compose.replay.probe import Probe, check_mean, slack
from secateur.compose.replay.recording import Inputs, Recording
from secateur.compose.replay.remaining import Remaining
from secateur.compose.replay.rerun import Rerun
from secateur.compose.replay.start import Start, skipped, start_of, whole_run
from secateur.types.call import run
from secateur.types.loss import loss_of


class Session:
    """Runs the network as it is on all rows, keeps what candidates need, and runs those.

    Args:
        left: the network; it is restored after every run.
        units: group name → which units of it, as the network numbers them, will be asked for.
        rows: of the pool; from here on they are called 0, 1, 2, ...
        memory: bytes that may be kept; what does not fit is computed again for every candidate.
    """

    def __init__(
        self,
        left: Remaining,
        probe: Probe,
        units: Mapping[str, Sequence[int]],
        rows: Tensor,
        memory: int,
    ) -> None:
        self._left, self._network, self._probe, self._rows = left, left.network, probe, rows
        self.piece, calls = probe.piece, probe.calls
        self.rows = torch.arange(self._rows.numel())
        wanted = [start_of(left.network, calls, left.groups, left.groups[name]) for name in units]
        starts = {s.name: s for s in _affordable(calls, wanted, memory // len(self.rows))}
        inputs = {
            name: Inputs(
                s.first,
                _input_dim(left.network, calls[s.first]),
                s.reader.unit_of,
                units[name],
            )
            for name, s in starts.items()
            if s.reader is not None
        }
        self._recording = Recording(calls, _outputs(calls, starts.values()), inputs)
        self._reruns = {
            (name, unit): Rerun(left.network, calls, starts[name], unit, inputs.get(name))
            for name in units
            for unit in units[name]
        }
        self._batches: dict[int, tuple[Any, Tensor]] = {}
        self.present = self._record()

    def slack(self, loss: float) -> float:
        """By how much a mean loss may be off through rounding."""
        return slack(self._network, loss)

    def losses(self, candidate: Candidate, rows: Tensor, key: int) -> Tensor:
        """Losses of single samples without one unit, float64 (rows,).

        Args:
            rows: ascending.
            key: stands for these rows every time.

        Raises:
            DataError: a loss is not finite.
            ModelError: the network goes another way for these samples.
        """
        rerun = self._rerun(candidate)
        if rerun.silent(self._recording, rows, key):
            return self.present[rows]
        if key not in self._batches:
            self._batches[key] = self._probe.batch(self._rows[rows])
        x, y = self._batches[key]
        rerun.begin(self._recording, rows, key)
        where = str(candidate)
        with torch.no_grad(), rerun.hiding(), intercepted(self._network, rerun.handle):
            return sample_losses(run(self._network, x, where), y, self._probe.loss, where)

    def silent(self, candidate: Candidate) -> bool:
        """Whether the unit is read nowhere but by one linear layer, and is zero there for all samples."""
        return self._rerun(candidate).silent(self._recording, self.rows, -2)

    def _rerun(self, candidate: Candidate) -> Rerun:
        return self._reruns[candidate.group, self._left.number(candidate)]

    def _record(self) -> Tensor:
        """Losses of all rows with all units there.

        Raises:
            DataError: a loss is not finite.
            ModelError: the network goes another way, or the loss is not the mean over samples.
        """
        found, where = [], "present network"
        with torch.no_grad(), intercepted(self._network, self._recording.handle):
            for rows in self.rows.split(self.piece):
                x, y = self._probe.batch(self._rows[rows])
                self._recording.begin(len(rows))
                out = run(self._network, x, where)
                found.append(sample_losses(out, y, self._probe.loss, where))
                check_mean(float(loss_of(out, y, self._probe.loss, where)), found[-1])
        return torch.cat(found)


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

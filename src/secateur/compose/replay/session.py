"""One network and one set of samples: losses of any rows, with any one unit away."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from secateur.compose.candidates import Candidate
from secateur.compose.pool import sample_losses
from secateur.compose.replay.calls import Call, Handle, intercepted
from secateur.compose.replay.folds import Folds
from secateur.compose.replay.probe import Probe, check_mean, slack
from secateur.compose.replay.recording import Inputs, Recording, Store
from secateur.compose.replay.remaining import Remaining
from secateur.compose.replay.rerun import Rerun
from secateur.compose.replay.start import Start, Uses, skipped, start_of, whole_run
from secateur.types.call import run
from secateur.types.loss import loss_of


class Session:
    """Runs the network as it is on all rows, keeps what candidates need, and runs those.

    Args:
        left: the network; it is restored after every run.
        units: group name → which units of it, as the network numbers them, will be asked for.
        rows: of the pool; from here on they are called 0, 1, 2, ...
        memory: bytes that may be kept; what does not fit is computed again for every candidate.
        store: where to keep it.
    """

    def __init__(
        self,
        left: Remaining,
        probe: Probe,
        units: Mapping[str, Sequence[int]],
        rows: Tensor,
        memory: int,
        store: Store,
    ) -> None:
        self._left, self._probe, self._rows = left, probe, rows
        self.piece, self.rows = probe.piece, torch.arange(rows.numel())
        self.first = self.rows[: self.piece]
        uses = Uses(left.network, probe.calls)
        wanted = [start_of(uses, left.groups, left.groups[name]) for name in units]
        starts = {s.name: s for s in _affordable(probe.calls, wanted, memory // (2 * len(rows)))}
        inputs = {
            name: Inputs(s.first, _summed_dim(uses, s.first), s.reader.unit_of, units[name])
            for name, s in starts.items()
            if s.reader is not None
        }
        outputs = _outputs(probe.calls, starts.values())
        self._recording = Recording(probe.calls, len(rows), outputs, inputs, store)
        self._folds = Folds(left.network, _foldable(probe, starts.values()))
        self._reruns = {
            name: Rerun(left.network, probe.calls, starts[name], inputs.get(name), self._folds)
            for name in units
        }
        self._handle: Handle = self._recording.handle
        self.present = torch.empty(0)  # losses of all rows with all units there, float64

    @contextmanager
    def running(self) -> Iterator[None]:
        """Inside, losses can be asked for.

        Raises:
            DataError: a loss is not finite.
            ModelError: the network goes another way than before, or the loss is not the mean over
                samples.
        """
        network = self._left.network
        with torch.no_grad(), self._folds.running(), intercepted(network, self._handled):
            self.present = self._record()
            yield

    def losses(self, candidates: Sequence[Candidate], rows: Tensor) -> Tensor:
        """Losses of single samples without each of the units, float64 (candidates, rows).

        Raises:
            DataError: a loss is not finite.
            ModelError: the network goes another way for these samples.
        """
        found = [self.present[rows]] * len(candidates)
        groups: dict[str, list[int]] = {}
        for i, candidate in enumerate(candidates):
            if not self._silent(candidate, rows):
                groups.setdefault(candidate.group, []).append(i)
        for name, numbers in groups.items():
            # more than a piece at a time gains nothing: memory is then what takes the time
            size = max(1, self.piece // len(rows)) if self._reruns[name].stacks else 1
            for first in range(0, len(numbers), size):
                some = numbers[first : first + size]
                away = [candidates[i] for i in some]
                for i, losses in zip(some, self._away(away, rows), strict=True):
                    found[i] = losses
        return torch.stack(found)

    def silent(self, candidate: Candidate) -> bool:
        """Whether the unit is read nowhere but by one linear layer, and is zero there for all samples."""
        return self._silent(candidate, self.rows)

    def _silent(self, candidate: Candidate, rows: Tensor) -> bool:
        unit = self._left.number(candidate)
        return self._reruns[candidate.group].silent(unit, self._recording, rows)

    def _away(self, candidates: Sequence[Candidate], rows: Tensor) -> Tensor:
        """Losses without units of one group, each on all rows, in one run."""
        rerun, where = self._reruns[candidates[0].group], ", ".join(map(str, candidates))
        units = [self._left.number(candidate) for candidate in candidates]
        self._handle = rerun.handle
        with rerun.without(units, self._recording, rows):
            out, y = self._run(rows.repeat(len(units)), where)
        losses = sample_losses(out, y, self._probe.loss, where)
        return losses.reshape(len(units), len(rows))

    def slack(self, loss: float) -> float:
        """By how much a mean loss may be off through rounding."""
        return slack(self._left.network, loss)

    def _record(self) -> Tensor:
        found, loss, where = [], self._probe.loss, "present network"
        for rows in self.rows.split(self.piece):
            self._recording.begin(len(rows))
            out, y = self._run(rows, where)
            found.append(sample_losses(out, y, loss, where))
            check_mean(float(loss_of(out, y, loss, where)), found[-1])
        return torch.cat(found)

    def _run(self, rows: Tensor, where: str) -> tuple[Any, Tensor]:
        """What the network returns, and the labels."""
        x, y = self._probe.batch(self._rows[rows])
        return run(self._left.network, x, where), y

    def _handled(self, *call: Any) -> Any:
        return self._handle(*call)


def _foldable(probe: Probe, starts: Iterable[Start]) -> dict[str, str]:
    """Which BatchNorms go into which convolutions: none that begins a run without the latter."""
    first = {probe.calls[start.first].path for start in starts}
    return {layer: norm for layer, norm in probe.folds.items() if norm not in first}


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


def _summed_dim(uses: Uses, number: int) -> int:
    """The dim of a linear layer's input that its weight sums over."""
    layer = uses.network.get_submodule(uses.calls[number].path)
    return -1 if isinstance(layer, nn.Linear) else 1

"""A table of layer latencies on this machine, kept in a file for the next network and the next budget."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from secateur import archive
from secateur.cost import Layer, Prices, Surface, placed, points, processor
from secateur.cost.surface import Point
from secateur.errors import FileError, OptionError
from secateur.files import write_text
from secateur.runtime.eager import TorchEager
from secateur.runtime.layer_times import layer_times
from secateur.runtime.runtime import Runtime
from secateur.runtime.stopwatch import Stopwatch
from secateur.types.kinds import as_path, refuse_no_function, refuse_no_network

_FORMAT = 2  # 1: layers by themselves, with the copies that neighbours spare them
_VARIABLE = "SECATEUR_CACHE"
_EAGER = TorchEager()

Clock = Callable[[Runtime, Layer, Sequence[Point], int], dict[Point, float]]
"""(runtime, layer, widths, threads) → seconds at each of them."""

Rows = dict[str, list[list[float]]]
"""Layer with its dense widths, as text → [outs, ins, seconds] of each point."""


@dataclass(frozen=True, slots=True)
class LayerTable:
    """Where measured layer latencies are kept, and how they are taken.

    One file for each processor, runtime with its version, and number of threads; a layer's batch and
    image size are part of its row. Every row is written as soon as it is measured: what is killed
    goes on where it was.

    Attributes:
        folder: of the files; None: `$SECATEUR_CACHE`, or else `secateur` in the user's cache folder.
        clock: measures one layer.
    """

    folder: str | Path | None = None
    clock: Clock = layer_times

    def __post_init__(self) -> None:
        if self.folder is not None:
            as_path(self.folder, "LayerTable", "folder='times'")
        refuse_no_function(self.clock, "LayerTable", "leave clock out")

    def prices(
        self,
        model: nn.Module,
        example: Any,
        stopwatch: Stopwatch,
        tell: Callable[[int, int], None] = lambda _done, _of: None,
    ) -> Prices:
        """The layers of a network with their times, measured where the table lacks them.

        Args:
            stopwatch: its runtime, batch and threads; eager PyTorch on the CPU where it names none.
            tell: called with how many distinct layers are known, and how many there are.

        Raises:
            DataError: the network does not run on the example.
            FileError: the file is damaged, or cannot be written.
            MissingExtraError: the runtime is not installed.
            ModelError: it is no network.
            OptionError: it is no stopwatch.
        """
        refuse_no_network(model, "LayerTable")
        if not isinstance(stopwatch, Stopwatch):
            raise OptionError(
                f"{stopwatch!r} is no stopwatch",
                where="LayerTable",
                hint="sec.Stopwatch(sec.OnnxRuntime())",
            )
        runtime = stopwatch.runtime or _EAGER
        on = _on(runtime, stopwatch.threads)
        file = self._file(on)
        rows = _read(file)
        calls = placed(model, stopwatch.example(example))
        wanted = {_key(one.layer, one.outs, one.ins): one for one in calls}
        for done, (key, one) in enumerate(wanted.items()):
            tell(done, len(wanted))
            if key not in rows:
                where = points(one.outs, one.ins)
                found = self.clock(runtime, one.layer, where, stopwatch.threads)
                row = [[*point, found[point]] for point in where]
                rows = {**_read(file), **rows, key: row}  # another process may have written since
                write_text(
                    file, json.dumps({"format": _FORMAT, "on": on, "layers": rows}, indent=0)
                )
        tell(len(wanted), len(wanted))
        return Prices(
            tuple((one, _surface(rows, one.layer, one.outs, one.ins, file)) for one in calls)
        )

    def _file(self, on: dict[str, Any]) -> Path:
        folder = _folder() if self.folder is None else Path(self.folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(
                f"cannot be made: {error.strerror}",
                where=str(folder),
                hint=f"choose another folder by {_VARIABLE}",
            ) from error
        stamp = json.dumps({"format": _FORMAT, **on}, sort_keys=True)
        name = hashlib.sha256(stamp.encode()).hexdigest()[:16]
        return folder / f"layers-{name}.json"


def _folder() -> Path:
    if os.environ.get(_VARIABLE):
        return Path(os.environ[_VARIABLE])
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "secateur"


def _on(runtime: Runtime, threads: int) -> dict[str, Any]:
    """What a time depends on, beside the layer."""
    return {
        "processor": processor(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "runtime": f"{runtime.require()}, {runtime!r}",
        "threads": threads,
    }


def _key(layer: Layer, outs: int, ins: int) -> str:
    return f"{layer};{outs}x{ins}"


def _read(file: Path) -> Rows:
    """All rows; none where there is no file yet."""
    if not file.exists():
        return {}
    with archive.malformed(file, "table of layers"):
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise FileError(f"cannot read: {error.strerror}", where=str(file)) from error
        if found["format"] != _FORMAT:
            raise ValueError("another format")
        return {
            str(key): [[float(x) for x in p] for p in row] for key, row in found["layers"].items()
        }


def _surface(rows: Rows, layer: Layer, outs: int, ins: int, file: Path) -> Surface:
    with archive.malformed(file, "table of layers"):
        row = rows[_key(layer, outs, ins)]
        return Surface(outs, ins, {(int(o), int(i)): seconds for o, i, seconds in row})

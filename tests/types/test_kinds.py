"""Arguments of the wrong kind: every public function that writes, reads or times says which, and how."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import secateur as sec
from secateur.errors import OptionError, SecateurError
from secateur.pipeline import unpack_run
from secateur.pipeline.bench import bench
from secateur.types.kinds import as_path, as_paths, refuse_no_function, refuse_no_switch

NET = nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
X = torch.randn(2, 1, 4, 4)
WRONG = (3, 3.5, object(), b"net.sct", [1], {"a": 1})

# What is called with a value of the wrong kind, by the name of the argument.
CALLS: dict[str, Callable[[Any], Any]] = {
    "export.path": lambda it: sec.export(NET, X, it),
    "export.inputs": lambda it: sec.export(NET, X, "net.pt2", inputs=it),
    "export.retired": lambda it: sec.export(NET, X, "net.pt2", retired=it),
    "export.model": lambda it: sec.export(it, X, "net.pt2"),
    "export.example": lambda it: sec.export(NET, it, "net.pt2"),
    "export.how": lambda it: sec.export(NET, X, "net.pt2", it),
    "pack.what": lambda it: sec.pack(it, "new.sct"),
    "pack.path": lambda it: sec.pack(NET, it),
    "pack.plan": lambda it: sec.pack(NET, "new.sct", plan=it),
    "pack.model": lambda it: sec.pack(NET, "new.sct", model=it),
    "pack.base": lambda it: sec.pack(NET, "new.sct", base=it),
    "pack.dtype": lambda it: sec.pack(NET, "new.sct", dtype=it),
    "pack.bits": lambda it: sec.pack(NET, "new.sct", bits=it),
    "pack.bare": lambda it: sec.pack(NET, "new.sct", bare=it),
    "unpack.path": lambda it: sec.unpack(it, NET),
    "unpack.model": lambda it: sec.unpack("net.sct", it),
    "unpack.base": lambda it: sec.unpack("net.sct", NET, base=it),
    "unpack.trust": lambda it: sec.unpack("net.sct", NET, trust=it),
    "unpack_run.folder": lambda it: unpack_run("net.sct", it),
    "rebuild": sec.rebuild,
    "bench": lambda it: bench(it, lambda _: None, ()),  # type: ignore[arg-type,return-value]
    "quantize.model": lambda it: sec.quantize(it, sec.Quantizer(8)),
    "quantize.quantizer": lambda it: sec.quantize(NET, it),
    "quantize.progress": lambda it: sec.quantize(NET, sec.Quantizer(8), [X], progress=it),
    "accelerate.model": lambda it: sec.accelerate(it, X),
    "accelerate.inputs": lambda it: sec.accelerate(NET, it),
    "accelerate.clock": lambda it: sec.accelerate(NET, X, clock=it),
    "Stopwatch.runtime": sec.Stopwatch,
    "Stopwatch.seconds": lambda it: sec.Stopwatch(seconds=[it]),  # type: ignore[arg-type]
    "Stopwatch.clock": lambda it: sec.Stopwatch(sec.TorchEager(), clock=it),
    "Stopwatch.dense": lambda it: sec.Stopwatch(repeats=1).against(it, X),
    "Stopwatch.small": sec.Stopwatch(repeats=1).against(NET, X),
    "Stopwatch.example": lambda it: sec.Stopwatch(repeats=1).against(NET, it)(NET),
    "LayerTable.folder": lambda it: sec.LayerTable(folder=it),
    "LayerTable.clock": lambda it: sec.LayerTable(clock=it),
    "LayerTable.model": lambda it: sec.LayerTable("times").prices(it, X, sec.Stopwatch()),
    "LayerTable.example": lambda it: sec.LayerTable("times").prices(NET, it, sec.Stopwatch()),
    "LayerTable.stopwatch": lambda it: sec.LayerTable("times").prices(NET, X, it),
    "prune.to": lambda it: sec.prune(NET, X, method="magnitude", to=it),
    "prune.rounding": lambda it: sec.prune(NET, X, method="magnitude", bits=8, rounding=it),
    "prune.measure": lambda it: sec.prune(NET, X, method="magnitude", measure=it),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_wrong_kind_is_told_and_nothing_is_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sec.pack(NET, "net.sct")
    for wrong in WRONG:
        with pytest.raises(SecateurError) as told:
            CALLS[name](wrong)
        assert told.value.what
        assert told.value.hint
    left = {path.name for path in tmp_path.iterdir()}
    assert left - {"times"} == {"net.sct"}


def test_paths() -> None:
    assert as_path("a/b", "path", "") == Path("a/b") == as_path(Path("a/b"), "path", "")
    assert as_paths("a", "base", "") == (Path("a"),)
    assert as_paths(iter(["a", Path("b")]), "base", "") == (Path("a"), Path("b"))
    assert as_paths((), "base", "") == ()
    with pytest.raises(OptionError, match=r"path: a path was expected, found 3\nhint: net.sct"):
        as_path(3, "path", "net.sct")
    with pytest.raises(OptionError, match="base: a path was expected, found None"):
        as_paths(["a", None], "base", "")
    with pytest.raises(OptionError, match="found list"):  # not a screen full of it
        as_path([0.0] * 1000, "path", "")


def test_functions_and_switches() -> None:
    refuse_no_function(len, "clock", "")
    refuse_no_switch(False, "trust")
    for no in ("no", 1, None):
        with pytest.raises(OptionError, match="trust: True or False was expected"):
            refuse_no_switch(no, "trust")
        with pytest.raises(OptionError, match="clock: a function was expected"):
            refuse_no_function(no, "clock", "")

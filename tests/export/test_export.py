"""Exports: written, loaded back, run, compared; what cannot be is refused and leaves nothing."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import secateur as sec
from secateur.errors import DataError, FileError, ModelError, OptionError
from secateur.export import FORMATS, Exporter, Session, TorchProgram, export
from secateur.export.placed import placed
from secateur.types.call import call, of_size
from secateur.types.outputs import output_tensors
from tests.export.networks import of_zoo, pruned, pruned_residual
from tests.source import PACKAGE

NEEDS = {"onnx": "onnxruntime", "openvino": "openvino", "executorch": "executorch"}


def needed(name: str) -> Exporter:
    """A format, if its runtime is there."""
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    return FORMATS[name]()


def rerun(how: Exporter, path: Path, example: Any) -> list[Tensor]:
    """What a fresh session gives."""
    return how.open(path)(example)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "case", ["pruned", "inverted_residual", "lstm", "packed_qkv", "dict_input", "tuple_output"]
)
def test_the_file_computes_what_the_network_computes(name: str, case: str, tmp_path: Path) -> None:
    how = needed(name)
    model, x = pruned_residual() if case == "pruned" else of_zoo(case)
    path = tmp_path / f"net{how.ending}"
    done = export(model, x, path, how)
    assert done.max_abs_diff <= 1e-5 * done.max_abs_output
    assert done.runtime.partition(" ")[2]
    assert {file.name for file in done.files} == {p.name for p in tmp_path.iterdir()}
    for file in done.files:
        content = (tmp_path / file.name).read_bytes()
        assert (file.bytes, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert b"/secateur/" not in content  # no line of anybody's code
    given = of_size(x, 7) if how.dynamic_batch else x
    with torch.no_grad():
        wanted = output_tensors(call(model, given))
    found = rerun(how, path, given)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    changed = rerun(how, path, jolted(given))  # it looks at its input
    assert any(not torch.allclose(a, b) for a, b in zip(changed, found, strict=True))


def jolted(example: Any) -> Any:
    """Another input of the same shapes."""
    draw = torch.Generator().manual_seed(5)

    def other(x: Tensor) -> Tensor:
        return torch.randn(x.shape, generator=draw) if x.is_floating_point() else x.flip(-1)

    if isinstance(example, dict):
        return {key: other(x) for key, x in example.items()}
    return other(example)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_a_fixed_batch(name: str, tmp_path: Path) -> None:
    needed(name)
    how = FORMATS[name](dynamic_batch=False)
    model, x = pruned_residual()
    path = tmp_path / f"net{how.ending}"
    assert export(model, x, path, how).batches == (2, 2)
    with pytest.raises(ModelError, match="does not run it"):
        rerun(how, path, of_size(x, 3))


def test_parametrisations_are_written_out_and_the_network_is_untouched(tmp_path: Path) -> None:
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 6)), nn.Tanh(), nn.Linear(6, 3))
    twin = model.train()[0]
    x = torch.randn(2, 4)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    for _ in range(2):
        assert export(model, x, tmp_path / "net.pt2").max_abs_diff < 1e-6
    assert twin.weight.shape == (6, 4)
    assert model.training
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def test_more_inputs_are_compared_too(tmp_path: Path) -> None:
    model, x = pruned_residual()
    done = export(model, x, tmp_path / "net.pt2", inputs=[of_size(x, 4), of_size(x, 9)])
    assert done.batches == (2, 4, 9, 1, 5)


class Lying:
    """Writes something else than the network: what a fault in a tool would look like."""

    name: ClassVar[str] = "lying"
    ending: ClassVar[str] = ".lie"
    dynamic_batch = False

    def __init__(self, by: float) -> None:
        self.by = by

    def require(self) -> str:
        return "lying 1.0"

    def write(self, model: nn.Module, example: Any, path: Path) -> tuple[str, ...]:
        with torch.no_grad():
            next(model.parameters()).add_(self.by)
        return TorchProgram(dynamic_batch=False).write(model, example, path.with_suffix(".pt2"))

    def open(self, path: Path, threads: int = 1) -> Session:
        return TorchProgram().open(path.with_suffix(".pt2"))


@pytest.mark.parametrize("by", [1e-2, float("nan"), float("inf")])
def test_a_difference_is_an_error_and_leaves_no_file(by: float, tmp_path: Path) -> None:
    model, x = pruned_residual()
    path = tmp_path / "net.lie"
    path.write_text("what was there")
    with pytest.raises(ModelError, match=r"lying 1\.0 and PyTorch differ by") as error:
        export(model, x, path, Lying(by))
    assert "no file was written" in error.value.hint
    assert [p.name for p in tmp_path.iterdir()] == ["net.lie"]
    assert path.read_text() == "what was there"


class Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


class OfTwo(nn.Module):
    """Right for an even batch alone."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(2, -1, 3).sum(0)


@pytest.mark.parametrize(
    ("model", "x", "error", "words"),
    [
        (Branches(), torch.randn(2, 3), ModelError, "torch.where"),
        (OfTwo(), torch.randn(4, 3), (ModelError, DataError), ""),
        (nn.Linear(3, 2), torch.randn(2, 4), (ModelError, DataError), ""),
        (nn.Linear(3, 2), [], DataError, "no batch"),
        (nn.DataParallel(nn.Linear(3, 2)), torch.randn(2, 3), ModelError, "model.module"),
        (nn.Linear(3, 2), torch.randn(0, 3), DataError, "holds no sample"),
        (nn.LazyLinear(2), torch.randn(2, 3), ModelError, "run the lazy network once"),
        (nn.Linear(3, 2, device="meta"), torch.randn(2, 3), ModelError, "meta device"),
        (3, torch.randn(2, 3), ModelError, "found int"),
    ],
)
def test_networks_and_inputs_that_do_not_fit(
    model: nn.Module, x: Any, error: Any, words: str, tmp_path: Path
) -> None:
    with pytest.raises(error) as raised:
        export(model, x, tmp_path / "net.pt2")
    assert words in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_places_and_options_that_make_no_sense(tmp_path: Path) -> None:
    model, x = nn.Linear(3, 2), torch.randn(2, 3)
    (tmp_path / "folder.pt2").mkdir()
    for name, how, error in (
        ("net.foo", None, OptionError),
        ("net", None, OptionError),
        ("net.xml", TorchProgram(), OptionError),
        ("nix/net.pt2", None, FileError),
        ("folder.pt2", None, FileError),
    ):
        with pytest.raises(error) as raised:
            export(model, x, tmp_path / name, how)
        assert raised.value.hint
    for tolerance in (0.0, -1.0, float("nan"), float("inf"), "a", True):
        with pytest.raises(OptionError, match="tolerance"):
            export(model, x, tmp_path / "net.pt2", tolerance=tolerance)  # type: ignore[arg-type]
    for opset in (17, 20.5, "21"):
        with pytest.raises(OptionError, match="opset"):
            sec.Onnx(opset=opset)  # type: ignore[arg-type]
    assert [p.name for p in tmp_path.iterdir()] == ["folder.pt2"]


ABSENT = """
import json, sys, torch
sys.modules.update(dict.fromkeys(["onnx", "onnxruntime", "openvino", "executorch"]))
import secateur as sec
from secateur.errors import MissingExtraError
from secateur.runtime import installed
found = {}
for name in ("net.onnx", "net.xml", "net.pte"):
    try:
        sec.export(torch.nn.Linear(2, 2), torch.randn(2, 2), name)
    except MissingExtraError as error:
        found[name] = error.hint
print(json.dumps([found, [runtime.name for runtime in installed()]]))
"""


def test_what_is_not_installed_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ABSENT],
        cwd=tmp_path, capture_output=True, text=True, check=True, timeout=200,
    )  # fmt: skip
    hints, there = json.loads(done.stdout)
    assert hints == {
        "net.onnx": "pip install 'secateur[onnx]'",
        "net.xml": "pip install 'secateur[openvino]'",
        "net.pte": "pip install 'secateur[executorch]'",
    }
    assert "eager" in there
    assert not {"onnxruntime", "openvino"} & set(there)
    assert not list(tmp_path.iterdir())
    project = Path(PACKAGE.parent.parent, "pyproject.toml").read_text()
    assert all(f"\n{extra} = [" in project for extra in ("onnx", "openvino", "executorch"))


KILLED = """
import sys, tempfile
from pathlib import Path
from secateur.export.placed import placed
print("ready", flush=True)
for i in range(10**9):
    text = f"{i % 10}" * 300_000
    with tempfile.TemporaryDirectory() as folder:
        for name in ("net.xml", "net.bin"):
            Path(folder, name).write_text(text)
        placed(Path(folder, "net.xml"), Path("net.xml"))
"""


@pytest.mark.parametrize("wait", [0.05, 0.1, 0.2, 0.3, 0.5])
def test_a_kill_leaves_two_files_that_belong_together(wait: float, tmp_path: Path) -> None:
    """As OpenVINO writes them; the one that is asked for stands last, or not at all."""
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None
        child.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(wait)
        child.kill()
    if (tmp_path / "net.xml").exists():
        text = (tmp_path / "net.xml").read_text()
        assert (tmp_path / "net.bin").read_text() == text
        assert len(text) == 300_000


def written(folder: Path, text: str) -> Path:
    """A folder with two files that belong together."""
    folder.mkdir()
    for name in ("net.xml", "net.bin"):
        (folder / name).write_text(text)
    return folder / "net.xml"


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All is written out before anything goes."""
    made, old = written(tmp_path / "made", "new"), written(tmp_path / "place", "old")
    (old.parent / "about").write_text("old")
    calls = []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="no space left"):
        placed(made, old, [old.parent / "about"])
    assert {p.name: p.read_text() for p in old.parent.iterdir()} == {
        "net.xml": "old",
        "net.bin": "old",
        "about": "old",
    }


def test_each_moment_of_a_replacement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is seen between two steps, new is never beside old."""
    made, old = written(tmp_path / "made", "new"), written(tmp_path / "place", "old")
    about = old.parent / "about"
    about.write_text("old")
    seen = []

    def looked(path: Path, change: Any, *given: Any, **named: Any) -> Any:
        found = change(path, *given, **named)
        there = [p for p in old.parent.iterdir() if not p.name.startswith(".")]
        seen.append({p.name: p.read_text() for p in there})
        return found

    for name in ("replace", "unlink"):
        change = getattr(Path, name)
        monkeypatch.setattr(Path, name, lambda p, *a, c=change, **n: looked(p, c, *a, **n))
    placed(made, old, [about])
    old_pair, new_pair = ({"net.xml": age, "net.bin": age} for age in ("old", "new"))
    assert seen == [
        {**old_pair, "about": "old"},  # a note of what will be replaced
        old_pair,
        {"net.bin": "old"},
        {"net.bin": "new"},
        new_pair,
        new_pair,  # the note is gone
    ]
    assert {p.name for p in old.parent.iterdir()} == {"net.xml", "net.bin"}


@pytest.mark.parametrize("steps", range(1, 7))
@pytest.mark.parametrize("first", [True, False])
def test_what_a_kill_left_is_replaced(
    steps: int, first: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by an export that is killed itself; but what somebody put there meanwhile is not."""
    made, place = written(tmp_path / "made", "new"), tmp_path / "place"
    if first:
        place.mkdir()
    else:
        written(place, "old")
    left = [steps]

    def counted(path: Path, change: Any, *given: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return change(path, *given, **named)

    for _ in range(2):
        with monkeypatch.context() as patch:
            for name in ("replace", "unlink"):
                change = getattr(Path, name)
                patch.setattr(Path, name, lambda p, *a, c=change, **n: counted(p, c, *a, **n))
            with contextlib.suppress(KeyboardInterrupt):
                placed(made, place / "net.xml")
        left = [steps]
    if not (place / "net.xml").exists() and (place / "net.bin").exists():
        ours = (place / "net.bin").read_text()
        (place / "net.bin").write_text("somebody's data")
        with pytest.raises(FileError, match="that it belongs to"):
            placed(made, place / "net.xml")
        (place / "net.bin").write_text(ours)
    placed(made, place / "net.xml")
    there = {p.name: p.read_text() for p in place.iterdir() if not p.name.startswith(".secateur-")}
    assert there == {"net.xml": "new", "net.bin": "new"}


def test_a_file_that_belongs_to_nothing_is_not_replaced(tmp_path: Path) -> None:
    made = written(tmp_path / "made", "new")
    (tmp_path / "net.bin").write_text("somebody's data")
    with pytest.raises(FileError, match=r"there is no net\.xml that it belongs to"):
        placed(made, tmp_path / "net.xml")
    assert (tmp_path / "net.bin").read_text() == "somebody's data"
    assert {p.name for p in tmp_path.iterdir()} == {"made", "net.bin"}


def test_what_else_was_written_comes_along(tmp_path: Path) -> None:
    made, place = tmp_path / "made", tmp_path / "place"
    made.mkdir()
    place.mkdir()
    for name in ("net.xml", "net.bin"):
        (made / name).write_text(name)
    found = placed(made / "net.xml", place / "net.xml")
    assert [file.name for file in found] == ["net.xml", "net.bin"]
    assert {p.name for p in place.iterdir()} == {"net.xml", "net.bin"}


def test_attention_that_lost_heads(tmp_path: Path) -> None:
    """The written-out attention goes to ONNX as any other network."""
    pytest.importorskip("onnxruntime")
    model, x = of_zoo("multihead_attention")
    small = pruned(model, x, "units=0.5", sec.Heads())
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())
    done = export(small, x, tmp_path / "net.onnx")
    assert done.max_abs_diff <= 1e-5 * done.max_abs_output

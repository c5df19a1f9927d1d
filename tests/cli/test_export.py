"""`export` and `bench`: from a run's folder to a file, and to a table."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from secateur import data
from secateur.errors import OptionError
from secateur.export import TorchProgram
from secateur.pipeline import exporting, rebuild
from secateur.pipeline.exporting import export_run
from tests.cli.shell import PRUNE, document, refused, secateur
from tests.pipeline.small import part

OWN = """
from secateur.export import TorchProgram

class Program(TorchProgram):
    name = "own"

def nothing(): return 3
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run in it."""
    path = tmp_path_factory.mktemp("exports")
    assert secateur(*PRUNE, "-o", "run", cwd=path).returncode == 0
    return path


def test_a_file_and_its_certificate(folder: Path) -> None:
    done = secateur("export", "run", "-o", "net.pt2", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "net.pt2:" in done.stdout
    assert "differ by 0 at most" in done.stdout
    assert "certificate: net.pt2.certificate.json" in done.stdout
    told = json.loads((folder / "net.pt2.certificate.json").read_text())
    content = (folder / "net.pt2").read_bytes()
    assert told["files"] == [
        {"name": "net.pt2", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    ]
    assert told["batches"] == [1, 16, 3]  # the example, what judges, the example again
    x = part(5, seed=2).x
    with torch.no_grad():
        wanted = rebuild(folder / "run")(x)
    torch.testing.assert_close(TorchProgram().open(folder / "net.pt2")(x)[0], wanted)
    assert secateur("verify", "run", cwd=folder).returncode == 0  # the run is as it was


def test_no_certificate_stands_beside_a_file_that_it_does_not_speak_of(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, beside = folder / "again.pt2", folder / "again.pt2.certificate.json"
    before, _ = export_run(folder / "run", path, TorchProgram(), data.load)
    told, content = beside.read_text(), path.read_bytes()
    with pytest.raises(OptionError, match="tolerance"):  # refused: both stay
        export_run(folder / "run", path, TorchProgram(), data.load, -1.0)
    assert (beside.read_text(), path.read_bytes()) == (told, content)

    def killed(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(exporting, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        export_run(folder / "run", path, TorchProgram(dynamic_batch=False), data.load)
    assert hashlib.sha256(path.read_bytes()).hexdigest() != before.files[0].sha256
    assert not beside.exists()


def test_a_format_by_name_with_options(folder: Path) -> None:
    pytest.importorskip("onnxruntime")
    done = secateur("export", "run", "--format", "onnx?opset=20&dynamic_batch=false",
                    "-o", "net.onnx", "--json", cwd=folder)  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = document(done)
    assert told == json.loads((folder / "net.onnx.certificate.json").read_text())
    assert told["options"] == "Onnx(opset=20, dynamic_batch=False, codes=True)"
    assert told["batches"] == [1, 1]


def test_what_cannot_be_exported(folder: Path) -> None:
    (folder / "own.py").write_text(OWN)
    for words, said in (
        (("-o", "a.foo"), "no format has this ending"),
        (("-o", "a.onnx", "--format", "onix"), "did you mean onnx"),
        (("-o", "a.pt2", "--format", "torch?opset=3"), "no option 'opset'"),
        (("-o", "a.xml", "--format", "torch"), "ends in .pt2"),
        (("-o", "nix/a.pt2"), "no such folder"),
        (("-o", "a.pt2", "--tolerance", "0"), "tolerance"),
        (("-o", "a.pt2", "--format", "own.py:nothing"), "is no exporter"),
    ):
        refused(secateur("export", "run", *words, cwd=folder), said)
    refused(secateur("export", "nix", "-o", "a.pt2", cwd=folder), "not the folder of a run")
    assert not list(folder.glob("a.*"))


def test_an_exporter_of_ones_own(folder: Path) -> None:
    (folder / "own.py").write_text(OWN)
    done = secateur("export", "run", "--format", "own.py:Program?dynamic_batch=false", "-o", "own.pt2",
                    "--json", cwd=folder)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert document(done)["format"] == "own"


def test_bench(folder: Path) -> None:
    words = ("bench", "run", "--runtime", "eager", "--batch", 2, "--batch", 3, "--repeats", 3)
    found = document(secateur(*words, "--json", cwd=folder))
    assert [row["batch"] for row in found["rows"]] == [2, 3]
    assert 0.3 < found["macs"]["kept"] <= 0.5
    for row in found["rows"]:
        assert row["difference"] == 0.0
        for which in ("dense", "pruned", "latency_kept"):
            assert 0.0 < row[which]["p10"] <= row[which]["median"] <= row[which]["p90"]
        assert row["speedup"] == pytest.approx(1 / row["latency_kept"]["median"])
        assert row["realised"] == pytest.approx(row["speedup"] * found["macs"]["kept"])
    slower = [row for row in found["rows"] if row["latency_kept"]["median"] > 1.0]
    assert len(found["hints"]) == len(slower)
    shown = secateur(*words, cwd=folder)
    assert shown.returncode == 0, shown.stderr
    for said in ("latency kept, %", "MACs kept, %", "realised", "eager", "3 repeats in turns"):
        assert said in shown.stdout
    assert "…" not in shown.stdout


def test_a_bench_that_makes_no_sense(folder: Path) -> None:
    refused(secateur("bench", "run", "--runtime", "eeger", cwd=folder), "did you mean eager")
    refused(secateur("bench", "run", "--batch", 0, cwd=folder), "at least 1")
    refused(secateur("bench", "nix", cwd=folder), "not the folder of a run")


def test_the_tables_name_them() -> None:
    listed = document(secateur("methods", "--json", cwd=Path.cwd()))
    assert {row["name"] for row in listed["formats"]} == {"onnx", "torch", "openvino", "executorch"}
    assert {row["name"] for row in listed["runtimes"]} >= {"eager", "compile", "onnxruntime"}
    assert all(row["about"] for kind in ("formats", "runtimes") for row in listed[kind])

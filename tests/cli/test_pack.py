"""`pack` and `unpack`: from a folder to a file, and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.shell import PRUNE, alone, document, refused, secateur


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packed")
    done = secateur(*PRUNE, "-o", "run", cwd=path)
    assert done.returncode == 0, done.stderr
    assert secateur("pack", "run", "-o", "net.sct", cwd=path).returncode == 0
    return path


def test_there_and_back(folder: Path) -> None:
    done = alone("pack", "run", "-o", "again.sct", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    size = (folder / "again.sct").stat().st_size
    assert (folder / "again.sct").read_bytes() == (folder / "net.sct").read_bytes()
    *table, last = done.stdout.splitlines()
    assert last == "written to again.sct"
    assert table[0].split() == ["shape", "coding", "in", "memory", "packed"]
    assert table[-1].split()[0] == "total"
    assert table[-1].split()[-1] == f"{size:,}"
    bytes_of = [int(line.split()[-1].replace(",", "")) for line in table[1:-1]]
    assert sum(bytes_of) == size  # every byte is in a row
    done = alone("unpack", "net.sct", "-o", "out", "--trust", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("unpacked to out\n")
    for verb in ("verify", "measure"):
        assert secateur(verb, "out", cwd=folder).returncode == 0


def test_json(folder: Path) -> None:
    done = secateur("pack", "run", "-o", "b.sct", "--bits", 8, "--dtype", "bfloat16", "--bare",
                    "--json", cwd=folder)  # fmt: skip
    told = document(done)
    assert told["bytes"] == (folder / "b.sct").stat().st_size
    assert told["record"] == 0
    assert {t["coding"] for t in told["tensors"]} >= {"8 bits", "float32", "int64"}
    done = secateur("unpack", "net.sct", "-o", "out2", "--trust", "--json", cwd=folder)
    assert document(done)["run"] == "out2"


def test_a_difference(folder: Path) -> None:
    done = secateur("pack", "run", "-o", "d.sct", "--base", "net.sct", "--json", cwd=folder)
    told = document(done)
    assert {tensor["coding"] for tensor in told["tensors"]} == {"unchanged"}
    assert told["bytes"] < 0.5 * (folder / "net.sct").stat().st_size
    words = ("unpack", "d.sct", "-o", "out3", "--trust")
    refused(secateur(*words, cwd=folder), "holds only what differs")
    done = secateur(*words, "--base", "net.sct", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert secateur("verify", "out3", cwd=folder).returncode == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("pack", "nothing", "-o", "x.sct"), "not the folder of a run"),
        (("pack", "run", "-o", "x.sct", "--bits", "3"), "3 bits"),
        (("pack", "run", "-o", "x.sct", "--dtype", "int8"), "'int8'"),
        (("pack", "run", "-o", "no/x.sct"), "cannot write"),
        (("pack", "run", "-o", "x.sct", "--base", "run/run.json"), "is not a bundle"),
        (("unpack", "nothing.sct", "-o", "x"), "no such file"),
        (("unpack", "run/run.json", "-o", "x"), "is not a bundle"),
        (("unpack", "net.sct", "-o", "x"), "which is code"),
        (("unpack", "net.sct", "-o", "run", "--trust"), "holds a run"),
        (("unpack", "net.sct", "-o", "x", "--model", "demo:resnet20", "--trust"), "network"),
    ],
)
def test_refusals(folder: Path, words: tuple[str, ...], message: str) -> None:
    refused(secateur(*words, cwd=folder), message)
    assert not (folder / "x").exists()
    assert not (folder / "x.sct").exists()

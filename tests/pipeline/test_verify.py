"""Does a run's folder still hold what it says?"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch

from secateur import archive
from secateur import data as any_data
from secateur.errors import FileError
from secateur.pipeline import fingerprint, run, verify
from secateur.pipeline.folder import JOURNAL, RESULTS
from secateur.pipeline.journal import extend_journal
from tests.pipeline.small import data, net, request


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "run"
    run(request(finetune=0), path, data())
    return path


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def _failed(path: Path) -> list[str]:
    return [check.what for check in verify(path, any_data.load) if not check.holds]


def test_a_whole_run_holds(copy: Path) -> None:
    checks = list(verify(copy, any_data.load))
    assert all(check.holds for check in checks)
    assert [check.what for check in checks] == [
        JOURNAL,
        "run.json",
        *RESULTS,
        "the run came to its end",
        "dense network",
        "certificate",
        "network",
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"granularity": "kernels", "to": ("params=0.5",), "finetune": 1},
        {"data": None, "example": "2x1x8x8", "method": "magnitude", "finetune": 0},
    ],
)
def test_other_runs_hold_too(tmp_path: Path, changes: dict[str, object]) -> None:
    run(request(**changes), tmp_path / "run", None if "data" in changes else data())
    assert _failed(tmp_path / "run") == []


@pytest.mark.parametrize("name", ["run.json", JOURNAL, *RESULTS])
def test_a_flipped_bit_or_a_missing_file_is_seen(copy: Path, name: str) -> None:
    path = copy / name
    whole = path.read_bytes()
    for place in (0, len(whole) // 3, len(whole) - 2):
        content = bytearray(whole)
        content[place] ^= 1
        path.write_bytes(content)
        assert _failed(copy) == [name]
    path.write_bytes(whole[:-7])
    assert _failed(copy) == [name]
    path.unlink()
    if name == "run.json":
        with pytest.raises(FileError):
            _failed(copy)
    else:
        assert name in _failed(copy)


def _forge(path: Path, name: str, content: bytes) -> None:
    """Change a file and its line in the journal, with a chain that fits."""
    lines = [json.loads(line) for line in (path / JOURNAL).read_text().splitlines()]
    (path / name).write_bytes(content)
    entries: list[object] = []
    for line in lines:
        said = {key: value for key, value in line.items() if key not in ("chain", "time")}
        if said.get("file") == name:
            said["sha256"] = fingerprint.of_bytes(content)
        entries = extend_journal(path / JOURNAL, entries, **said)  # type: ignore[arg-type]


def test_a_forged_network_is_seen(copy: Path, tmp_path: Path) -> None:
    """Hashes that fit are not enough: the network must be what the plan leaves."""
    tensors = archive.load(copy / "model.safetensors", "model")[1]
    tensors["inner.0.weight"][0, 0, 0, 0] += 1e-6
    forged = archive.save(tmp_path / "forged", "model", {}, tensors).read_bytes()
    _forge(copy, "model.safetensors", forged)
    assert _failed(copy) == ["network"]


def test_a_forged_certificate_is_seen(copy: Path) -> None:
    text = (copy / "certificate.json").read_text()
    before = text[text.index('"removed_units": ') :].split(",")[0]
    _forge(copy, "certificate.json", text.replace(before, '"removed_units": 1').encode())
    assert _failed(copy) == ["certificate"]


def test_a_run_that_was_cut_short_does_not_hold(tmp_path: Path) -> None:
    def interrupt(now: object) -> None:
        if "latency" in str(now):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(request(finetune=0), tmp_path / "run", data(), interrupt)
    assert _failed(tmp_path / "run") == ["measures.json", "the run came to its end"]


def test_another_dense_network_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(net().state_dict(), path)
    run(request(weights=str(path), finetune=0), tmp_path / "run", data())
    other = net().state_dict()
    other["head.bias"] += 1e-7
    safetensors.torch.save_file(other, path)
    assert _failed(tmp_path / "run") == ["dense network"]
    path.unlink()
    with pytest.raises(FileError, match="no such file"):
        _failed(tmp_path / "run")

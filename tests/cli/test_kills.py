"""SIGKILL at every file that takes its name: the same command goes on, and nothing half is whole."""

from __future__ import annotations

import json
import signal
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import pytest
import torch

from secateur import data
from secateur.errors import SecateurError
from secateur.export import FORMATS
from secateur.pipeline import rebuild, unpack, verify
from secateur.pipeline.fingerprint import of_file
from tests.cli.shell import DATA, NET, PRUNE, secateur
from tests.pipeline.small import digests, net, part


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run, another one, and the bundle of the first."""
    path = tmp_path_factory.mktemp("kills")
    assert secateur(*PRUNE, "-o", "run", cwd=path).returncode == 0
    assert secateur(*PRUNE, "--seed", "1", "-o", "other", cwd=path).returncode == 0
    assert secateur("pack", "run", "-o", "run.sct", cwd=path).returncode == 0
    return path


def answer(file: Path) -> torch.Tensor:
    """What a file or a folder computes."""
    x = part(3, seed=2).x
    with torch.no_grad():
        if file.is_dir():
            return rebuild(file)(x)
        if file.suffix == ".sct":
            return unpack(file, net())(x)
        how = next(make() for make in FORMATS.values() if make().ending == file.suffix)
        return how.open(file)(x)[0]


def taken_for_whole(file: Path) -> torch.Tensor | None:
    """The answer, if the file or folder passes for a whole one."""
    try:
        if file.is_dir() and not all(check.holds for check in verify(file, data.load)):
            return None
        return answer(file)
    except (SecateurError, FileNotFoundError):
        return None


def lies(target: Path) -> list[str]:
    """Files that the certificate beside an exported one speaks of, and that are others by now."""
    certificate = target.with_name(f"{target.name}.certificate.json")
    if not certificate.exists():
        return []
    told = json.loads(certificate.read_text())["files"]
    return [f["name"] for f in told if f["sha256"] != of_file(target.with_name(f["name"]))]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "name", "least"),
    [
        ("pack", "net.sct", 2),
        ("export", "net", 4),
        ("unpack", "unpacked", 12),
    ],
)
def test_killed_at_any_file(verb: str, name: str, least: int, folder: Path, tmp_path: Path) -> None:
    exports, unpacks = verb == "export", verb == "unpack"
    if exports:
        two = find_spec("openvino") is not None  # files, which must not be of two networks
        name, least = ("net.xml", 8) if two else ("net.pt2", 4)
    given = folder / ("run.sct" if unpacks else "run")
    options = ("--model", NET, "--trust") if unpacks else ()
    target = tmp_path / name
    wanted, before = answer(folder / "run"), None
    if not unpacks:  # a file of another network is there, which the first kills may leave
        assert secateur(verb, folder / "other", "-o", target, cwd=tmp_path).returncode == 0
        before = answer(target)
        assert not torch.allclose(before, wanted)
    for moment in count(1):
        done = secateur(verb, given, *options, "-o", target, cwd=tmp_path, kill=(moment, ""))
        if done.returncode == 0:
            break
        if unpacks and "holds a run" in done.stderr:  # the last kill came when all was done
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not lies(target)
        found = taken_for_whole(target)
        whole = [one for one in (before, wanted) if one is not None]
        assert found is None or any(torch.allclose(found, one, atol=1e-5) for one in whole)
    assert moment > least
    assert torch.allclose(answer(target), wanted, atol=1e-5)
    there = {p.name for p in tmp_path.iterdir() if not p.name.startswith(".secateur-")}
    beside = {f"{name}.certificate.json"} if exports else set()
    assert there == {name, *beside} | ({"net.bin"} if name == "net.xml" else set())
    if unpacks:
        assert all(check.holds for check in verify(target, data.load))
        assert not list(target.glob(".secateur-*"))


@pytest.mark.parametrize(
    ("to", "tries"),
    [
        (["accuracy=-3", "memory=0.9"], 3),
        (["macs=0.5", "latency=100s"], 1),  # no machine is busy enough to miss it
    ],
)
def test_a_search_that_was_killed_is_taken_up(to: list[str], tries: int, tmp_path: Path) -> None:
    command = ["prune", NET, "--data", DATA, "--samples", "256"]
    command += [word for budget in to for word in ("--to", budget)]
    whole = secateur(*command, "-o", "whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    lines = [line for line in whole.stderr.splitlines() if "search " in line]
    assert len(lines) >= tries
    for number, line in enumerate(lines, start=1):
        assert f"search {number}: " in line
        assert "of the multiply-accumulates: " in line
        assert "(asked " in line
        assert line.endswith(("holds", "does not hold"))
    measured = {budget.partition("=")[0] for budget in to} - {"macs"}
    assert all(any(f"{name} " in line for line in lines) for name in measured)
    for number in range(1, tries + 1):
        word = f"search {number}: "
        killed = secateur(*command, "-o", "run", cwd=tmp_path, kill=(1, word))
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        left = {path.name for path in (tmp_path / "run").iterdir()}
        assert "plan.safetensors" not in left
    done = secateur(*command, "-o", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "score" not in done.stderr.splitlines()  # what was scored before the first kill is read
    before, after = digests(tmp_path / "whole"), digests(tmp_path / "run")
    if "latency" in measured:  # which the plan tells, and which is never the same twice
        del before["plan.safetensors"], after["plan.safetensors"]
    assert after == before
    assert all(check.holds for check in verify(tmp_path / "run", data.load))

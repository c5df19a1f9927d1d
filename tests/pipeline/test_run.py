"""A run in a folder: taken up after a kill, refused where it is another one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

from secateur.errors import BudgetError, FileError, ModelError, SecateurError
from secateur.pipeline import Request, rebuild, run
from secateur.pipeline.folder import RESULTS
from secateur.pipeline.journal import read_journal
from tests.pipeline.small import DATA, NET, data, digests, net, request

ROOT = Path(__file__).resolve().parents[2]
FILES = {"run.json", "journal.jsonl", *RESULTS}

# A run that SIGKILL ends at its n-th file: before the file takes its name (odd n), or right after.
KILLED = """
import os, pathlib, signal, sys
from secateur.pipeline import run
from tests.pipeline.small import data, request
left, before, replace = int(sys.argv[2]), int(sys.argv[2]) % 2, pathlib.Path.replace
def counting(self, target):
    global left
    left -= 1
    if left == 0 and before:
        os.kill(os.getpid(), signal.SIGKILL)
    done = replace(self, target)
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return done
pathlib.Path.replace = counting
run(request(), sys.argv[1], data())
"""

WHOLE = """
import sys
from secateur.pipeline import run
from tests.pipeline.small import data, request
run(request(), sys.argv[1], data())
"""


def _start(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, env=environment
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted, in a process of its own."""
    path = tmp_path_factory.mktemp("whole") / "run"
    assert _start(WHOLE, path).wait() == 0
    return path


def _is_whole(path: Path) -> bool:
    return {entry.name for entry in path.iterdir()} == FILES


def test_the_folder_holds_what_it_should(whole: Path) -> None:
    assert _is_whole(whole)
    assert "/" not in (whole / "run.json").read_text().replace(NET, "").replace(DATA, "").replace(
        "https://", ""
    )
    events = [entry["event"] for entry in read_journal(whole / "journal.jsonl")]
    assert events == ["wrote", "begin", *["wrote"] * 5, "done"]


@pytest.mark.slow
def test_killed_at_any_file_the_bytes_are_the_same(whole: Path, tmp_path: Path) -> None:
    path, seen = tmp_path / "run", []
    for attempt in range(40):
        child = _start(KILLED, path, 3 + attempt % 3)
        if child.wait() == 0:
            break
        assert child.returncode == -signal.SIGKILL
        seen.append(sorted(entry.name for entry in path.iterdir()))
    assert len(seen) >= 5
    assert any("checkpoint.safetensors" in names for names in seen)
    assert any(name.startswith(".secateur-") for names in seen for name in names)
    assert _is_whole(path)  # nothing half-written is left
    assert digests(path) == digests(whole)


@pytest.mark.slow
def test_killed_at_random_moments_the_bytes_are_the_same(whole: Path, tmp_path: Path) -> None:
    path, kills, moments = tmp_path / "run", 0, random.Random(0)
    for _ in range(6):
        begin = time.monotonic()
        child = _start(WHOLE, path)
        while not path.exists() and child.poll() is None and time.monotonic() - begin < 60:
            time.sleep(0.01)
        time.sleep(moments.uniform(0.0, 2.0))
        child.kill()
        kills += child.wait() != 0
    assert kills
    assert _start(WHOLE, path).wait() == 0
    assert _is_whole(path)
    assert digests(path) == digests(whole)


def test_a_finished_run_is_read_not_made_again(tmp_path: Path) -> None:
    first = run(request(), tmp_path / "run", data())
    before = {name: (tmp_path / "run" / name).read_bytes() for name in FILES}
    again = run(request(), tmp_path / "run", data())
    assert {name: (tmp_path / "run" / name).read_bytes() for name in FILES} == before
    assert again.measures == first.measures
    assert again.certificate == first.certificate
    assert all(
        map(torch.equal, again.model.state_dict().values(), first.model.state_dict().values())
    )
    assert all(map(torch.equal, again.plan.masks.values(), first.plan.masks.values()))


def test_other_arguments_are_refused(tmp_path: Path) -> None:
    run(request(finetune=0), tmp_path / "run", data())
    with pytest.raises(FileError, match=r"to was .*macs=0\.5.*, is .*macs=0\.4") as caught:
        run(request(finetune=0, to=("macs=0.4",)), tmp_path / "run", data())
    assert "another folder" in caught.value.hint
    with pytest.raises(FileError, match="train data"):
        run(request(finetune=0), tmp_path / "run", data(301))
    assert _is_whole(tmp_path / "run")


def test_other_code_is_another_run(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    path.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
                    "from tests.pipeline.small import net\n")  # fmt: skip
    asked = request(model=f"{path}:net", finetune=0)
    run(asked, tmp_path / "run", data())
    path.write_text(path.read_text() + "# changed\n")
    with pytest.raises(FileError, match="model code"):
        run(asked, tmp_path / "run", data())


def test_untrained_networks_follow_the_seed(tmp_path: Path) -> None:
    asked = {"model": "demo:lenet300", "data": None, "method": "magnitude", "finetune": 0,
             "example": "2x1x28x28", "to": ("params=0.3",)}  # fmt: skip
    for name in "ab":
        run(request(**asked), tmp_path / name, None)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    run(request(**asked, seed=1), tmp_path / "c", None)
    assert digests(tmp_path / "a") != digests(tmp_path / "c")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"to": ("macs=0.0001",)}, BudgetError),
        ({"model": "demo:nix"}, SecateurError),
        ({"keep": ("nix",)}, SecateurError),
        ({"example": "2x3x8x8"}, SecateurError),
    ],
)
def test_what_fails_leaves_nothing(
    tmp_path: Path, changes: dict[str, object], error: type[Exception]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder in (empty, tmp_path / "deep" / "deeper"):
        with pytest.raises(error):
            run(request(**changes), folder, data())
    assert list(empty.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_fine_tuning_that_diverges_leaves_nothing(tmp_path: Path) -> None:
    sick = data()
    sick.train.x.mul_(1e15)
    asked = request(model="demo:lenet300?size=8&classes=4", method="magnitude")
    with pytest.raises(ModelError, match="the loss became"):
        run(asked, tmp_path / "run", sick)
    assert not (tmp_path / "run").exists()


def test_an_interrupted_run_is_kept(tmp_path: Path) -> None:
    def interrupt(now: object) -> None:
        if "finetune" in str(now):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(request(), tmp_path / "run", data(), interrupt)
    kept = {path.name for path in (tmp_path / "run").iterdir()}
    assert kept == {"run.json", "journal.jsonl", "scores.safetensors", "plan.safetensors",
                    "certificate.json"}  # fmt: skip
    with pytest.raises(FileError, match="not written yet"):
        rebuild(tmp_path / "run")
    run(request(), tmp_path / "run", data())
    assert _is_whole(tmp_path / "run")


@pytest.mark.parametrize("name", ["run.json", *RESULTS])
def test_a_file_that_was_changed_is_not_used(tmp_path: Path, name: str) -> None:
    run(request(finetune=0), tmp_path / "run", data())
    content = bytearray((tmp_path / "run" / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "run" / name).write_bytes(content)
    with pytest.raises(FileError, match=name.replace(".", r"\.")):
        run(request(finetune=0), tmp_path / "run", data())


def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(FileError, match=r"thesis\.tex"):
        run(request(), tmp_path, data())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(FileError, match="cannot be written"):
        run(request(), tmp_path / "thesis.tex" / "run", data())
    with pytest.raises(FileError, match="cannot be written"):
        run(request(), "/proc/nowhere", data())
    with pytest.raises(FileError, match="cannot be written"):
        run(request(), "a\0b", data())


def test_two_at_once_are_one_too_many(tmp_path: Path) -> None:
    refused = []

    def meanwhile(now: object) -> None:
        if not refused:
            with pytest.raises(FileError, match="at work") as caught:
                run(request(), tmp_path / "run", data())
            refused.append(caught.value)

    run(request(finetune=0), tmp_path / "run", data(), meanwhile)
    assert refused
    assert _is_whole(tmp_path / "run")


def test_weights_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    model = net()
    safetensors.torch.save_file(model.state_dict(), path)
    asked = Request(model=NET, weights=str(path), data=DATA, to=("macs=0.5",))
    run(asked, tmp_path / "run", data())
    path.unlink()
    rebuild(tmp_path / "run")  # needs them no more

"""The command line in a process of its own, as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SMALL = ROOT / "tests" / "pipeline" / "small.py"
NET, DATA = f"{SMALL}:net", f"{SMALL}:data"
PRUNE = ("prune", NET, "--data", DATA, "--to", "macs=0.5", "--samples", "256")

Done = subprocess.CompletedProcess[str]

ENVIRONMENT = os.environ | {
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(ROOT),
    "PYTHONDONTWRITEBYTECODE": "1",
    "COLUMNS": "80",
}


def secateur(*words: object, cwd: Path, kill: tuple[int, str] | None = None) -> Done:
    """Run `secateur WORDS` in a process that was forked where torch is there already.

    Args:
        kill: (moment, word) at which the process kills itself; see `tests.cli.forks`.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        command = {
            "words": [str(word) for word in words],
            "cwd": str(cwd),
            "out": str(out),
            "err": str(err),
            "kill": kill,
        }
        server = _server()
        if server.stdin is None or server.stdout is None:
            raise AssertionError("the pipes are gone")
        server.stdin.write(json.dumps(command) + "\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        return subprocess.CompletedProcess(command["words"], code, out.read_text(), err.read_text())


def alone(*words: object, cwd: Path, limit: int | None = None) -> Done:
    """Run `python -m secateur WORDS`, from the very beginning.

    Args:
        limit: no file may grow beyond so many kilobytes, as on a disk that is full.
    """
    command = [sys.executable, "-m", "secateur", *map(str, words)]
    if limit is not None:
        command = ["bash", "-c", f'ulimit -f {limit} && exec "$@"', "bash", *command]
    return subprocess.run(
        command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=200
    )


@cache
def _server() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.cli.forks"],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def stop() -> None:
    """End the process that forks, if there is one."""
    if _server.cache_info().currsize:
        _server().communicate(timeout=100)


def document(done: Done) -> Any:
    """The one JSON document on stdout."""
    return json.loads(done.stdout)


def refused(done: Done, *words: str) -> None:
    """It could not run, says so in one error with a hint, and nothing else."""
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert sum(line.startswith("error: ") for line in lines) == 1, done.stderr
    assert any(line.startswith("hint: ") for line in lines), done.stderr
    for word in words:
        assert word in done.stderr

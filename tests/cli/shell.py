"""The command line in a process of its own, as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SMALL = ROOT / "tests" / "pipeline" / "small.py"
NET, DATA = f"{SMALL}:net", f"{SMALL}:data"
PRUNE = ("prune", NET, "--data", DATA, "--to", "macs=0.5", "--samples", "256")

Done = subprocess.CompletedProcess[str]


def secateur(*words: object, cwd: Path, limit: int | None = None) -> Done:
    """Run `python -m secateur WORDS`.

    Args:
        limit: no file may grow beyond so many kilobytes, as on a disk that is full.
    """
    command = [sys.executable, "-m", "secateur", *map(str, words)]
    if limit is not None:
        command = ["bash", "-c", f'ulimit -f {limit} && exec "$@"', "bash", *command]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": paths,
        "PYTHONDONTWRITEBYTECODE": "1",
        "COLUMNS": "80",
    }
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=200
    )


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

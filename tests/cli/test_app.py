"""Verbs, options and exit codes."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from secateur.cli.app import VERBS
from tests.cli.shell import PRUNE, ROOT, alone, secateur

ALONE = """
import sys
sys.argv = ["secateur", *sys.argv[1:]]
from secateur.cli import main
try:
    main()
finally:
    print(sorted({"torch", "numpy", "safetensors"} & set(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        *[([verb, "--help"], 0) for verb in VERBS],
        (["prune"], 2),
        (["prune", "demo:resnet20", "--nix"], 2),
        (["prune", "demo:resnet20", "-o", "x", "--finetune", "many"], 2),
        (["nix"], 2),
    ],
    ids=str,
)
def test_help_and_wrong_usage_do_not_wait_for_torch(
    words: list[str], code: int, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == code
    assert done.stderr.endswith("[]\n")
    assert "Traceback" not in done.stderr
    if code == 0:
        assert done.stdout
    else:
        assert done.stdout == ""
        assert "secateur" in done.stderr


def test_the_version_is_that_of_the_package(tmp_path: Path) -> None:
    assert alone("--version", cwd=tmp_path).stdout.strip() == version("secateur")


def test_every_verb_has_its_file_and_takes_json() -> None:
    found = {path.stem for path in (ROOT / "src/secateur/cli/verbs").glob("[a-z]*.py")}
    assert found == set(VERBS)
    for verb, kind in VERBS.items():
        assert callable(importlib.import_module(f"secateur.cli.verbs.{verb}").run)
        assert "json" in kind.__dataclass_fields__


def test_the_console_script_is_this(tmp_path: Path) -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"secateur": "secateur.cli:main"}


def test_an_interrupt_ends_with_130_and_can_be_taken_up(tmp_path: Path) -> None:
    code = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell put us behind &
import secateur.cli.verbs.prune as prune
from secateur.cli import main
whole = prune.run_request
def interrupted(request, out, data, report):
    def raising(now):
        if now.stage == "recalibrate":
            os.kill(os.getpid(), signal.SIGINT)
        report(now)
    return whole(request, out, data, raising)
if sys.argv[1] == "first":
    prune.run_request = interrupted
sys.argv = ["secateur", *sys.argv[2:]]
main()
"""
    for turn, expected in (("first", 130), ("second", 0)):
        done = subprocess.run(
            [sys.executable, "-c", code, turn, *PRUNE, "-o", "run"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )
        assert done.returncode == expected, done.stderr
        assert "Traceback" not in done.stderr
    assert "interrupted" not in done.stderr


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m secateur methods --json | head -c 1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.stdout == "{"
    assert done.stderr == ""


def test_faults_of_the_users_code_are_shown_whole(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("def make():\n    return {}['the key']\n")
    done = secateur("inspect", "net.py:make", "--example", "1x3", cwd=tmp_path)
    assert done.returncode == 2
    assert "net.py" in done.stderr
    assert "the key" in done.stderr
    assert done.stdout == ""


def test_progress_is_a_bar_where_stderr_is_a_terminal(tmp_path: Path) -> None:
    leader, follower = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "secateur", *PRUNE, "-o", "run", "--json"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=follower,
    ) as child:
        os.close(follower)
        seen = bytearray()
        while True:
            try:
                piece = os.read(leader, 4096)
            except OSError:  # the terminal is closed at the other side
                break
            if not piece:
                break
            seen += piece
        assert child.wait(timeout=100) == 0
    os.close(leader)
    assert b"score" in seen
    assert b"Traceback" not in seen

"""A process that has torch already, and forks for every command: a new process, without the wait.

Reads one JSON line a command, {"words", "cwd", "out", "err", "kill"}, and answers with the exit code.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from secateur.cli import main
from secateur.cli.app import VERBS


def _run(command: dict[str, Any]) -> None:
    """The command, in a process of its own; never returns."""
    code: Any = 1
    try:
        os.chdir(command["cwd"])
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(command[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.argv = ["secateur", *command["words"]]
        if command["kill"]:
            _die_at(*command["kill"])
        main()
    except SystemExit as end:
        code = end.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def _die_at(moment: int, word: str) -> None:
    """SIGKILL at a moment, counted from 1.

    Args:
        word: lines on stderr with this word are the moments; "": before each file takes its name (odd
            moments), and right after (even ones).
    """
    replace, write, passed = Path.replace, sys.stderr.write, 0

    def passing() -> None:
        nonlocal passed
        passed += 1
        if passed == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(path: Path, target: Path) -> Path:
        passing()
        done = replace(path, target)
        passing()
        return done

    def told(text: str) -> int:
        found = write(text)
        if word in text:
            passing()
        return found

    if word:
        sys.stderr.write = told  # type: ignore[method-assign]
    else:
        Path.replace = counted  # type: ignore[method-assign,assignment]


if __name__ == "__main__":
    for verb in VERBS:
        importlib.import_module(f"secateur.cli.verbs.{verb}")
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _run(json.loads(line))
        status = os.waitpid(child, 0)[1]
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)

"""The commands on the pages run as they stand, one after the other."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.cli.shell import ROOT, secateur

COMMANDS = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = [
    page for page in sorted((ROOT / "docs").rglob("*.md")) if COMMANDS.search(page.read_text())
]


def test_there_are_some() -> None:
    assert PAGES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_run(page: Path, tmp_path: Path) -> None:
    for block in COMMANDS.finditer(page.read_text()):
        for line in block[1].replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            assert words[0] == "secateur"
            done = secateur(*words[1:], cwd=tmp_path)
            assert done.returncode == 0, (line, done.stderr)

"""The journal: each line vouches for those before it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secateur.errors import FileError
from secateur.pipeline.journal import extend_journal, read_journal


def _three(path: Path) -> bytes:
    entries = read_journal(path)
    for number in range(3):
        entries = extend_journal(path, entries, event="wrote", file=f"{number}.txt")
    return path.read_bytes()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    assert read_journal(path) == []
    _three(path)
    entries = read_journal(path)
    assert [entry["file"] for entry in entries] == ["0.txt", "1.txt", "2.txt"]
    assert all(entry["time"].endswith("+00:00") for entry in entries)
    assert extend_journal(path, entries, event="done") == read_journal(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0), flip=st.integers(1, 255))
def test_a_changed_byte_is_seen(tmp_path: Path, place: int, flip: int) -> None:
    path = tmp_path / "journal.jsonl"
    path.unlink(missing_ok=True)
    content = bytearray(_three(path))
    content[place % len(content)] ^= flip
    path.write_bytes(content)
    try:
        left = [entry["file"] for entry in read_journal(path)]
    except FileError:
        return
    # the last end of a line may go: then nothing that was said is lost
    assert left == ["0.txt", "1.txt", "2.txt"]


@pytest.mark.parametrize("gone", [0, 1])
def test_a_line_cannot_be_taken_out(tmp_path: Path, gone: int) -> None:
    path = tmp_path / "journal.jsonl"
    lines = _three(path).splitlines(keepends=True)
    path.write_bytes(b"".join(line for number, line in enumerate(lines) if number != gone))
    with pytest.raises(FileError, match="damaged"):
        read_journal(path)
    path.write_bytes(b"".join(lines[::-1]))
    with pytest.raises(FileError, match="damaged"):
        read_journal(path)

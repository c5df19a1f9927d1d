from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from secateur import errors
from secateur.files import write_bytes, write_text


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_it_writes_and_says_where(tmp_path: Path) -> None:
    assert write_bytes(tmp_path / "a", b"\0\xff") == tmp_path / "a"
    assert (tmp_path / "a").read_bytes() == b"\0\xff"
    assert write_text(str(tmp_path / "b"), "ü\n") == tmp_path / "b"
    assert (tmp_path / "b").read_bytes() == b"\xc3\xbc\n"
    assert _names(tmp_path) == ["a", "b"]


def test_it_replaces_what_was_there(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "a long old text")
    with (tmp_path / "a").open() as reader:
        write_text(tmp_path / "a", "new")
        assert reader.read() == "a long old text"  # who has it open keeps the whole old file
    assert (tmp_path / "a").read_text() == "new"


def test_a_new_file_has_the_mode_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    write_text(tmp_path / "ours", "")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "ours")}
    assert len(modes) == 1


@pytest.mark.parametrize("place", ["no/such/folder/a", "a\0b", "x" * 300, "file/below"])
def test_a_path_that_cannot_be_written_is_an_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.FileError, match="cannot write") as caught:
        write_text(f"{tmp_path}/{place}", "x")
    assert place in caught.value.where
    assert _names(tmp_path) == ["file"]


def test_a_folder_in_its_place_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(errors.FileError, match="cannot write"):
        write_text(tmp_path / "a", "x")
    assert _names(tmp_path) == ["a"]


def test_a_folder_without_permission_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may write anywhere, nobody may not
    try:
        with pytest.raises(errors.FileError, match="cannot write: Permission denied"):
            write_text(tmp_path / "a", "x")
    finally:
        os.seteuid(user)
    assert _names(tmp_path) == []


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    code = """
import resource, signal, sys
from secateur import errors
from secateur.files import write_bytes
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # as a disk with 1000 bytes left
try:
    write_bytes(sys.argv[1], b"x" * 5000)
except errors.FileError as error:
    print(error.what)
"""
    path = tmp_path / "a"
    path.write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("cannot write: File too large")
    assert path.read_text() == "old"
    assert _names(tmp_path) == ["a"]


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    """A process that writes two texts in turn is killed; one of them is there whole."""
    path = tmp_path / "a"
    code = """
import sys
from secateur.files import write_text
print("ready", flush=True)
while True:
    write_text(sys.argv[1], "a" * 200_000)
    write_text(sys.argv[1], "b" * 300_000)
"""
    whole = {"a" * 200_000, "b" * 300_000}
    for pause in (0.0, 0.013, 0.031):
        command = [sys.executable, "-c", code, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            try:
                assert writer.stdout is not None
                assert writer.stdout.readline() == "ready\n"
                while not path.exists() and writer.poll() is None:
                    time.sleep(0.001)
                for _ in range(50):
                    assert path.read_text() in whole
                time.sleep(pause)
            finally:
                writer.kill()
        assert path.read_text() in whole

"""Files that are damaged, cut short, or made to harm: an error each time, soon, and in little memory."""

from __future__ import annotations

import dataclasses
import random
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
import torch

from secateur import wire
from secateur.errors import FileError
from secateur.wire.header import deflate, inflate, to_bytes
from tests.wire.mutated import Case, cases, contents, load, mutated, sealed, taken_apart
from tests.wire.networks import packed


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    return cases(tmp_path_factory.mktemp("cases"))


def test_the_good_files_load(files: list[Case], tmp_path: Path) -> None:
    assert {load(case, case.content, tmp_path / "f") for case in files} == {"loaded"}
    assert {case.name for case in files} == {"tiny", "masked", "constant", "cut", "difference"}


def test_a_flipped_bit_anywhere(files: list[Case], tmp_path: Path) -> None:
    for case in files:
        if case.name not in {"masked", "difference"}:
            continue
        before = contents(case.network)
        for place in range(len(case.content)):
            wrong = bytearray(case.content)
            wrong[place] ^= 1 << place % 8
            assert load(case, bytes(wrong), tmp_path / "f") == "FileError", (case.name, place)
        assert contents(case.network) == before


def test_cut_short_or_too_long(files: list[Case], tmp_path: Path) -> None:
    for case in files:
        lengths = range(0, len(case.content), 1 if case.name == "masked" else 29)
        for length in lengths:
            assert load(case, case.content[:length], tmp_path / "f") == "FileError", length
        assert load(case, case.content + b"\0", tmp_path / "f") == "FileError"


def test_another_format(files: list[Case], tmp_path: Path) -> None:
    wrong = b"SCT\x02" + files[0].content[4:]
    (tmp_path / "f").write_bytes(wrong)
    with pytest.raises(FileError, match="written in format 2, this secateur reads 1"):
        wire.stored([tmp_path / "f"])
    for content, what in ((b"", "truncated"), (b"PK\x03\x04" + b"x" * 99, "is not a bundle")):
        (tmp_path / "f").write_bytes(content)
        with pytest.raises(FileError, match=what):
            wire.stored([tmp_path / "f"])
    with pytest.raises(FileError, match="no such file"):
        wire.stored([tmp_path / "nothing"])
    with pytest.raises(FileError, match="cannot be read"):
        wire.stored([tmp_path])


def _lie(case: Case, path: Path, **changes: object) -> str:
    header, blocks = taken_apart(case.content)
    path.write_bytes(sealed(to_bytes(dataclasses.replace(header, **changes)), blocks))
    with pytest.raises(FileError) as caught:
        wire.load(path, lambda header: case.network)
    assert caught.value.where == str(path)
    return caught.value.what


def test_a_lying_header(files: list[Case], tmp_path: Path) -> None:
    case, path = files[0], tmp_path / "f"
    header, _ = taken_apart(case.content)
    first = header.entries[0]
    huge = dataclasses.replace(first, shape=(2**40, 2**20))
    assert "first.weight is" in _lie(case, path, entries=(huge, *header.entries[1:]))
    double = dataclasses.replace(first, dtype=torch.float64)
    assert "float64" in _lie(case, path, entries=(double, *header.entries[1:]))
    assert "differ in first.weight" in _lie(
        case, path, entries=(dataclasses.replace(first, name="x"), *header.entries[1:])
    )
    assert "one name" in _lie(
        case, path, entries=(first, dataclasses.replace(header.entries[1], name=first.name),
                             *header.entries[2:])
    )  # fmt: skip
    long = dataclasses.replace(first.block, length=2**50)
    entries = (dataclasses.replace(first, block=long), *header.entries[1:])
    assert "bytes are announced" in _lie(case, path, entries=entries)
    assert "9 bytes were announced" in _lie(case, path, record_bytes=header.record_bytes + 1)
    assert "said to hold" in _lie(case, path, record_bytes=2**50)
    assert "holds only what differs" in _lie(case, path, base=bytes(32))


def test_a_header_that_swells(files: list[Case], tmp_path: Path) -> None:
    """What takes 64 times its stored length, and more, is not even decompressed."""
    swollen = deflate(bytes(10**7))
    with pytest.raises(ValueError, match="are said to hold"):
        inflate(swollen, 10**7)
    for length in (999, 1001):
        with pytest.raises(ValueError, match=f"{length} bytes were announced"):
            inflate(deflate(bytes(1000)), length)
    with pytest.raises(ValueError, match="decompressed"):
        inflate(b"\xff" * 50, 100)
    path = tmp_path / "f"
    path.write_bytes(sealed(bytes(10**6), []))
    with pytest.raises(FileError, match="said to hold"):
        wire.stored([path])


def test_a_base_cannot_promise_the_world(tmp_path: Path) -> None:
    """A tensor of one number is a few bytes however long; without a network to compare it with, that
    is believed only so far."""
    path = tmp_path / "f"
    wire.write(path, wire.Contents({"t": torch.zeros(1)}))
    header, blocks = taken_apart(path.read_bytes())
    entry = dataclasses.replace(header.entries[0], shape=(2**40,))
    path.write_bytes(sealed(to_bytes(dataclasses.replace(header, entries=(entry,))), blocks))
    with pytest.raises(FileError, match=r"of a base .* are the most"):
        wire.stored([path])


@pytest.mark.parametrize("seed", range(4))
def test_mutated_files(files: list[Case], tmp_path: Path, seed: int) -> None:
    """benchmarks/bundle_fuzz.py tries a hundred thousand."""

    def seconds(case: Case, content: bytes) -> float:
        begin = time.process_time()
        seen.add(load(case, content, path))
        return time.process_time() - begin

    draw, path = random.Random(seed), tmp_path / "f"
    others = [case.content for case in files]
    before = [contents(case.network) for case in files]
    seen, slow, most = set[str](), [], 0
    tracemalloc.start()
    for _ in range(120):
        case = draw.choice(files)
        content = mutated(case.content, others, draw)
        tracemalloc.reset_peak()
        base = tracemalloc.get_traced_memory()[0]
        if seconds(case, content) > 0.5:
            slow.append((case, content))
        most = max(most, tracemalloc.get_traced_memory()[1] - base)
    tracemalloc.stop()
    assert seen <= {"FileError", "loaded"}
    assert "FileError" in seen
    # A second on this file alone, and each time: the machine, not the file, may have been slow once.
    assert all(min(seconds(*again) for _ in range(5)) < 1 for again in slow)
    assert most < 4 << 20
    assert [contents(case.network) for case in files] == before


def test_killed_while_packing(tmp_path: Path) -> None:
    """Whatever stops it, there is the old file or none, and nothing half-written beside it."""
    import signal
    import subprocess

    code = (
        "import os, sys, torch, threading, time\n"
        "from secateur import wire\n"
        "tensors = {str(i): torch.randn(300, 300) for i in range(400)}\n"
        "print('ready', flush=True)\n"
        "wire.write(sys.argv[1], wire.Contents(tensors))\n"
        "print('written', flush=True)\n"
    )
    path = tmp_path / "net.sct"
    path.write_bytes(b"old")
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert process.stdout.read() == ""
    process.stdout.close()
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.sct"]


def test_an_error_while_packing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "net.sct"
    packed(path, torch.nn.Linear(2, 2))
    before = path.read_bytes()
    with pytest.raises(Exception, match="packed"):
        wire.write(path, wire.Contents({"a": torch.ones(3), "b": torch.eye(2).to_sparse()}))
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.sct"]

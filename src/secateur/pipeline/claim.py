"""A folder of one's own for a run, and nothing left in it of a run that fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from secateur.errors import FileError
from secateur.pipeline.folder import CHECKPOINT, JOURNAL, LEARNING, RECORD, RESULTS, UNPACKED
from secateur.pipeline.shelf import LEARNED

try:
    import fcntl
except ImportError:
    _lock = None  # on Windows two runs at once in one folder go unnoticed
else:
    _lock = fcntl.flock

_HALF = ".secateur-*"  # what `files.write_bytes` had not yet renamed when the process died


@contextmanager
def claimed(path: Path) -> Iterator[Path]:
    """A folder for one run, made if need be, and nobody else's meanwhile.

    A run that fails leaves nothing behind, a fine-tuning that could not write its next file
    excepted. A run that is killed or interrupted leaves what it has, to be taken up.

    Raises:
        FileError: it cannot be made or written, holds something else, or another run works in it.
    """
    made = _make(path)
    fresh = not (path / RECORD.file).exists()
    with _locked(path):
        strange = sorted(entry.name for entry in path.iterdir() if fresh and not entry.match(_HALF))
        if strange:
            raise FileError(
                f"holds {strange[0]}, but no run of secateur",
                where=str(path),
                hint="choose a folder that is new or empty",
            )
        for half in path.glob(_HALF):
            half.unlink()
        try:
            yield path
        except Exception as error:
            costly = isinstance(error, FileError) and (
                any((path / name).exists() for name in (CHECKPOINT, LEARNING))
                or '"event": "step"' in _text(path / JOURNAL)
            )
            if fresh and not costly:
                _remove(path, made)
            raise


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _make(path: Path) -> list[Path]:
    """Make the folder; returns what had to be made, innermost first."""
    missing: list[Path] = []
    try:
        missing += [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".secateur-{os.getpid()}"
        probe.touch()
        probe.unlink(missing_ok=True)  # another run that begins here may have cleared it away
    except (OSError, ValueError) as error:  # ValueError: a path that no folder can have
        for folder in missing:
            if folder.is_dir():
                folder.rmdir()
        why = error.strerror if isinstance(error, OSError) else error
        raise FileError(
            f"cannot be written: {why}",
            where=str(path),
            hint="choose a folder that is yours, on a disk with space",
        ) from error
    return missing


def _remove(path: Path, made: list[Path]) -> None:
    for name in (RECORD.file, JOURNAL, CHECKPOINT, LEARNING, LEARNED.file, *RESULTS, *UNPACKED):
        (path / name).unlink(missing_ok=True)
    for folder in made:
        if not any(folder.iterdir()):
            folder.rmdir()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Nobody else's meanwhile; the lock goes with the process, however it ends."""
    if _lock is None:
        yield
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        try:
            _lock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FileError(
                "another secateur is at work here",
                where=str(path),
                hint="wait for it, or choose another folder",
            ) from error
        yield
    finally:
        os.close(handle)

"""A run's folder: whole files, and a journal of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from secateur.errors import FileError
from secateur.pipeline import fingerprint
from secateur.pipeline.certificates import read_json, write_json
from secateur.pipeline.environment import environment
from secateur.pipeline.journal import Entry, extend_journal, read_journal
from secateur.pipeline.shelf import CERTIFICATE, CUT, MEASURES, MODEL, PACKED, PLAN, SCORES, Kind

T = TypeVar("T")

RECORD: Kind[Mapping[str, Any]] = Kind("run.json", read_json, write_json)
JOURNAL, CHECKPOINT = "journal.jsonl", "checkpoint.safetensors"
LEARNING = "learning.safetensors"
RESULTS = tuple(kind.file for kind in (SCORES, PLAN, CERTIFICATE, MODEL, MEASURES))
UNPACKED = tuple(kind.file for kind in (CUT, CERTIFICATE, MODEL, MEASURES, PACKED))
"""What a run that came in a bundle has instead of `RESULTS`."""


class RunFolder:
    """Keeps results as files; what an earlier start has written is read, not made again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint: Path | None = path / CHECKPOINT
        self.learning: Path | None = path / LEARNING
        self.entries = read_journal(path / JOURNAL)

    def keep(self, kind: Kind[T], make: Callable[[], T]) -> T:
        """The result in its file, or what `make` gives, put there.

        Raises:
            FileError: the file is not what was written, or cannot be written.
        """
        if self.has(kind):
            return self.read(kind)
        value = make()
        kind.save(value, self.path / kind.file)
        self.note_file(kind.file)
        return value

    def has(self, kind: Kind[Any]) -> bool:
        """Whether a result of this kind was written."""
        return kind.file in written(self.entries)

    def read(self, kind: Kind[T]) -> T:
        """A result that was written before.

        Raises:
            FileError: it was not, or the file is not what was written.
        """
        known, path = written(self.entries).get(kind.file), self.path / kind.file
        if known is None:
            raise FileError(
                "was not written yet", where=str(path), hint="the same command takes the run up"
            )
        if not path.is_file() or fingerprint.of_file(path) != known:
            raise FileError(
                "is gone or was changed since it was written",
                where=str(path),
                hint="remove the folder, or choose another one, and run it again",
            )
        return kind.load(path)

    @property
    def steps(self) -> list[Mapping[str, Any]]:
        """What a recipe of many steps has noted before."""
        return [entry["step"] for entry in self.entries if entry["event"] == "step"]

    def step(self, said: Mapping[str, Any]) -> None:
        """Note a step of a recipe."""
        self.note("step", step=said)

    def note(self, event: str, **said: Any) -> None:
        """Add a line to the journal."""
        self.entries = extend_journal(self.path / JOURNAL, self.entries, event=event, **said)

    def note_file(self, file: str) -> None:
        """Add a line about a file that was written."""
        self.note("wrote", file=file, sha256=fingerprint.of_file(self.path / file))

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return any(entry["event"] == "done" for entry in self.entries)

    def finish(self) -> None:
        """Nothing more will come."""
        for file in (CHECKPOINT, LEARNING):
            (self.path / file).unlink(missing_ok=True)
        self.note("done")


def written(entries: Sequence[Entry]) -> dict[str, str]:
    """SHA-256 of every file that the journal says was written."""
    return {entry["file"]: entry["sha256"] for entry in entries if entry["event"] == "wrote"}


def begun(
    path: Path, request: Mapping[str, Any], inputs: Mapping[str, Any], command: str
) -> RunFolder:
    """The folder of a run that begins, or goes on where it was stopped.

    Raises:
        FileError: the folder holds a run with other arguments, or is damaged.
    """
    if not (path / RECORD.file).exists():
        record = {
            "format": 1,
            "command": command,
            "request": request,
            "inputs": inputs,
            "environment": environment(),
        }
        RECORD.save(record, path / RECORD.file)
    folder = RunFolder(path)
    if RECORD.file not in written(folder.entries):
        folder.note_file(RECORD.file)
    same_arguments(folder.read(RECORD), request, inputs, path)
    if not folder.finished:
        folder.note("begin", environment=environment())
    return folder


def same_arguments(
    record: Mapping[str, Any], request: Mapping[str, Any], inputs: Mapping[str, Any], path: Path
) -> None:
    """Raise `FileError` where a folder is of another run than this one; says how they differ."""
    for kind, now in (("request", request), ("inputs", inputs)):
        found = record.get(kind)
        before = found if isinstance(found, dict) else {}
        names = [n for n in {**before, **now} if before.get(n) != now.get(n)]
        if names:
            words = [f"{n} was {before.get(n)!r}, is {now.get(n)!r}" for n in names]
            changed = f"the contents of {', '.join(names)} changed"
            raise FileError(
                "holds a run with other arguments: "
                + ("; ".join(words) if kind == "request" else changed),
                where=str(path),
                hint="choose another folder, or remove this one to run anew",
            )

"""The journal of a run: one JSON line for each thing done, each line vouching for those before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from secateur.errors import FileError
from secateur.files import write_text

_CHAIN = "chain"

Entry = Mapping[str, Any]


def read_journal(path: Path) -> list[Entry]:
    """All entries; none where there is no file yet.

    Raises:
        FileError: a line was changed, added or taken out, save from the end.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"cannot be read: {error}", where=str(path)) from error
    entries: list[Entry] = []
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            plain = {key: value for key, value in entry.items() if key != _CHAIN}
        except (ValueError, AttributeError):
            plain = {}
        if not plain or _line(_linked(plain, entries)) != line:
            raise FileError(
                f"line {number} is damaged, or a line before it is",
                where=str(path),
                hint="the files of this run cannot be trusted: run it again in a new folder",
            )
        entries.append(entry)
    return entries


def extend_journal(path: Path, entries: Sequence[Entry], **said: Any) -> list[Entry]:
    """The entries with one more, written to the file."""
    said["time"] = datetime.now(UTC).isoformat(timespec="milliseconds")
    longer = [*entries, _linked(said, entries)]
    write_text(path, "".join(f"{_line(entry)}\n" for entry in longer))
    return longer


def _linked(entry: Entry, before: Sequence[Entry]) -> Entry:
    """With a hash of itself and of all that went before."""
    last = str(before[-1][_CHAIN]) if before else ""
    return {**entry, _CHAIN: hashlib.sha256((last + _line(entry)).encode()).hexdigest()}


def _line(entry: Entry) -> str:
    return json.dumps(entry, sort_keys=True)

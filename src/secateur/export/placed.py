"""What was written and found right, moved to its place."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

from secateur.errors import FileError
from secateur.export.exported import Written
from secateur.files import write_text, writing


def placed(made: Path, path: Path, retired: Iterable[Path] = ()) -> tuple[Written, ...]:
    """Copy `made`, and what lies beside it in its folder, to the place of `path`, `path` last.

    All contents are on the disk, under temporary names, before anything of what was there goes. Then
    `retired` goes, and where other files belong to `path`, the older `path`: a kill may leave no
    `path`, but never one beside files that are not its own. Files without their `path` that a kill left
    are known by a note, `.NAME.replacing`, which holds their hashes as long as the exchange takes; the
    next export to `path` replaces them.

    Raises:
        FileError: a file cannot be written, or one that is no part of an earlier export is in the way.
    """
    others = sorted(file for file in made.parent.iterdir() if file != made)
    note = path.with_name(f".{path.name}.replacing")
    older = _older(others, path, _noted(note))
    written = []
    with ExitStack() as all_or_none:  # which is left from its end: `path` is renamed last
        for file in (made, *others):
            content = file.read_bytes()
            target = all_or_none.enter_context(writing(path.parent / file.name))
            target.write(content)
            target.flush()
            os.fsync(target.fileno())
            written.append(Written(file.name, len(content), hashlib.sha256(content).hexdigest()))
        if others:
            newer = {file.name: [file.sha256] for file in written[1:]}
            write_text(note, json.dumps({n: newer[n] + older.get(n, []) for n in newer}))
        for old in (*retired, *([path] if others else ())):
            old.unlink(missing_ok=True)
    note.unlink(missing_ok=True)
    return tuple(written)


def _older(
    others: Iterable[Path], path: Path, noted: Mapping[str, list[str]]
) -> dict[str, list[str]]:
    """Hashes of the files that will be replaced beside `path`, by name.

    Raises:
        FileError: one is neither an older `path`'s nor left by a kill.
    """
    found = {}
    for file in others:
        there = path.parent / file.name
        if not there.exists():
            continue
        found[file.name] = [_digest(there)]
        if not path.exists() and found[file.name][0] not in noted.get(file.name, []):
            raise FileError(
                f"would be replaced, and there is no {path.name} that it belongs to",
                where=str(there),
                hint="move it away, or choose another name",
            )
    return found


def _digest(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise FileError(
            f"cannot be replaced: {error.strerror}",
            where=str(file),
            hint="move it away, or choose another name",
        ) from error


def _noted(note: Path) -> dict[str, list[str]]:
    """What a killed export wrote down; nothing where there is no such note, or it is not one."""
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
        return {str(name): list(map(str, digests)) for name, digests in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}

"""What was written and found right, moved to its place."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from secateur.errors import FileError
from secateur.export.exported import Written
from secateur.files import writing


def placed(made: Path, path: Path, retired: Iterable[Path] = ()) -> tuple[Written, ...]:
    """Copy `made`, and what lies beside it in its folder, to the place of `path`, `path` last.

    All contents are on the disk, under temporary names, before anything of what was there goes. Then
    `retired` goes, and where other files belong to `path`, the older `path`: a kill may leave no
    `path`, but never one beside files that are not its own.

    Raises:
        FileError: a file cannot be written, or one that is no part of an earlier export is in the way.
    """
    others = sorted(file for file in made.parent.iterdir() if file != made)
    for file in others:
        there = path.parent / file.name
        if there.exists() and not path.exists():
            raise FileError(
                f"would be replaced, and there is no {path.name} that it belongs to",
                where=str(there),
                hint="move it away, or choose another name",
            )
    written = []
    with ExitStack() as all_or_none:  # which is left from its end: `path` is renamed last
        for file in (made, *others):
            content = file.read_bytes()
            target = all_or_none.enter_context(writing(path.parent / file.name))
            target.write(content)
            target.flush()
            os.fsync(target.fileno())
            written.append(Written(file.name, len(content), hashlib.sha256(content).hexdigest()))
        for old in (*retired, *([path] if others else ())):
            old.unlink(missing_ok=True)
    return tuple(written)

"""Writing files so that nothing half-written ever stays."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from secateur.errors import FileError, SecateurError


def write_bytes(path: str | Path, content: bytes) -> Path:
    """Write `content` under a temporary name beside `path`, then rename it.

    A reader sees the old file or the whole new one, whenever the process dies.

    Raises:
        FileError: the folder does not exist or cannot be written.
    """
    with writing(path) as file:
        file.write(content)
    return Path(path)


@contextmanager
def writing(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write piece by piece, as `write_bytes` does; an error inside leaves nothing behind.

    Raises:
        FileError: the folder does not exist or cannot be written.
    """
    path = Path(path)
    temporary = path.parent / f".secateur-{secrets.token_hex(8)}"
    try:
        # Mode 0666 less the umask, as for any new file; a name that exists is an error.
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except (OSError, ValueError) as error:  # ValueError: a path that no file can have
        raise FileError(
            f"cannot write: {_why(error)}",
            where=str(path),
            hint="is the folder there, and yours?",
        ) from error
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except SecateurError:
        temporary.unlink(missing_ok=True)
        raise
    except (OSError, ValueError) as error:
        temporary.unlink(missing_ok=True)
        raise FileError(f"cannot write: {_why(error)}", where=str(path)) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: str | Path, content: str) -> Path:
    """As `write_bytes`, UTF-8."""
    return write_bytes(path, content.encode())


def _why(error: OSError | ValueError) -> str:
    """The reason without the path, which may be that of the temporary file."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)

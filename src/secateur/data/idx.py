"""The idx format of MNIST, read strictly: a header says type and sizes, then the values follow.

Layout (Y. LeCun's MNIST page): two zero bytes, a type byte, the number of dims, each dim as a
big-endian uint32, the values, big-endian. Nothing before or after.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from secateur.errors import FileError

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_DEFLATE_RATIO = 1032  # a deflate stream never grows more than this
_CHUNK = 1 << 20


def read_idx(path: str | Path) -> npt.NDArray[Any]:
    """The array of one idx file, gzipped or not, in native byte order.

    Memory follows what the file really holds: a header that promises more is an error, found
    before anything of the promised size is allocated.

    Raises:
        FileError: missing, not idx, truncated, or longer than its header says.
    """
    path = Path(path)
    try:
        stored = path.stat().st_size
        with path.open("rb") as file:
            if file.read(2) == b"\x1f\x8b":
                file.seek(0)
                with gzip.open(file) as unpacked:
                    return _read(unpacked, stored * _DEFLATE_RATIO, path)
            file.seek(0)
            return _read(file, stored, path)
    except FileNotFoundError as error:
        raise FileError("there is no such file", where=str(path)) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FileError(
            f"the gzip file is damaged: {error}", where=str(path), hint="fetch or copy it again"
        ) from error
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"cannot read: {error.strerror}", where=str(path)) from error


def _read(file: IO[bytes] | gzip.GzipFile, most: int, path: Path) -> npt.NDArray[Any]:
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _TYPES or not 1 <= start[3] <= 4:
        raise FileError(
            f"not an idx file: it begins with {start.hex(' ') or 'nothing'}",
            where=str(path),
            hint="idx files begin with 00 00, a type and the number of dims",
        )
    kind, dims = np.dtype(_TYPES[start[2]]), start[3]
    sizes = file.read(4 * dims)
    if len(sizes) < 4 * dims:
        raise FileError("ends inside its header", where=str(path))
    shape = struct.unpack(f">{dims}I", sizes)
    promised = math.prod(shape) * kind.itemsize
    if promised > most:
        raise FileError(
            f"the header promises {shape}, {promised} bytes; the file cannot hold them",
            where=str(path),
            hint="it is truncated or damaged: fetch or copy it again",
        )
    content = bytearray()
    # one byte more than promised, to see whether something follows
    while chunk := file.read(min(_CHUNK, promised + 1 - len(content))):
        content += chunk
    if len(content) != promised:
        found = f"only {len(content)}" if len(content) < promised else "more"
        raise FileError(
            f"the header promises {shape}, {promised} bytes; there are {found}",
            where=str(path),
            hint="it is truncated or damaged: fetch or copy it again",
        )
    return np.frombuffer(content, kind).reshape(shape).astype(kind.newbyteorder("="), copy=False)

"""A bundle, block after block, with nothing believed before it is checked."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from torch import Tensor

from secateur import archive
from secateur.errors import FileError, SecateurError
from secateur.mask.cut import Cut
from secateur.wire import block, structure
from secateur.wire.adaptive import Memory
from secateur.wire.aligned import Older, Stored
from secateur.wire.header import DIGEST, LARGEST, Block, Header, checksum, from_bytes, inflate
from secateur.wire.page import Leaf
from secateur.wire.write import FRAME, MAGIC

_KIND = "bundle"
_HINT = "fetch it again; is it a file that secateur packed?"
_PLAUSIBLE, _SPARE = 1024, 1 << 24  # see `stored`


class Bundle:
    """A file that is being read, from its header to its checksum.

    Attributes:
        header: read and checked against the length of the file.
        plausible: how much a file of this length may hold where no network says it; see `stored`.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self._file, self._digest = path, file, hashlib.sha256()
        self._memory, self._left = Memory(), path.stat().st_size
        self.plausible = _PLAUSIBLE * self._left + _SPARE
        magic = self._next(len(MAGIC))
        if magic[:3] != MAGIC[:3]:
            raise FileError("is not a bundle", where=str(path), hint=_HINT)
        if magic != MAGIC:
            found = f"written in format {magic[3]}, this secateur reads {MAGIC[3]}"
            raise FileError(found, where=str(path), hint="update secateur")
        frame = self._next(FRAME)
        stored, plain, told = (
            int.from_bytes(frame[place : place + 4], "little") for place in (0, 4, 8)
        )
        if stored > min(self._left, LARGEST):
            raise ValueError(f"a header of {stored} bytes in {self._left}")
        content = self._next(stored)
        if zlib.crc32(content) != told:
            raise ValueError("the header does not match its checksum")
        self.header: Header = from_bytes(inflate(content, plain))
        blocks = sum(block.length for block in self.header.blocks)
        if blocks + DIGEST != self._left:
            raise ValueError(f"{blocks + DIGEST} bytes are announced and {self._left} follow")

    def cut(self, most: int) -> Cut:
        """What leads from the dense network to this one; read first.

        Args:
            most: how many indices its vectors may have.
        """
        return structure.read(self.header, self._leaf(self.header.structure), most)

    def tensors(self, older: Older) -> Iterator[tuple[str, Tensor]]:
        """Name and tensor, one after the other; read second."""
        for entry in self.header.entries:
            leaf = self._leaf(entry.block)
            base = older.find(entry.name, entry.shape, entry.dtype)
            yield entry.name, block.take(leaf, entry.shape, entry.dtype, base)

    def end(self) -> tuple[bytes, bytes]:
        """What else the bundle tells, read last; and the checksum that ends it, which is compared.

        The checksum, of all that stands before it, is what a difference to the bundle names.
        """
        content = self._content(self.header.record)
        record = inflate(content, self.header.record_bytes) if content else b""
        if len(record) != self.header.record_bytes:
            raise ValueError("the record is not as long as the header says")
        found = self._digest.digest()
        if self._next(DIGEST) != found:
            raise ValueError("the file does not match its checksum")
        return record, found

    def _leaf(self, announced: Block) -> Leaf:
        content = self._content(announced)
        return Leaf(memoryview(announced.parameters), memoryview(content), self._memory)

    def _content(self, announced: Block) -> bytes:
        content = self._next(announced.length)
        if checksum(content) != announced.checksum:
            raise ValueError("a block does not match its checksum")
        return content

    def _next(self, length: int) -> bytes:
        if length > self._left:
            raise FileError("is truncated", where=str(self.path), hint=_HINT)
        content = self._file.read(length)
        if len(content) != length:
            raise FileError("is truncated", where=str(self.path), hint=_HINT)
        self._left -= length
        self._digest.update(content)
        return content


@contextmanager
def opened(path: str | Path) -> Iterator[Bundle]:
    """A bundle to read, from its header on.

    Raises:
        FileError: missing, truncated, damaged, or contradicting itself, whenever that is found out.
        MissingExtraError: `constriction` is not installed.
    """
    path, other = Path(path), None
    with archive.malformed(path, _KIND):
        try:
            with path.open("rb") as file:
                yield Bundle(path, file)
        except FileError:
            raise
        except SecateurError as error:  # of the network: it says nothing against the file
            other = error
        except FileNotFoundError as error:
            raise FileError(
                "there is no such file", where=str(path), hint="is the path right, seen from here?"
            ) from error
        except OSError as error:
            raise FileError(f"cannot be read: {error.strerror}", where=str(path)) from error
    if other is not None:
        raise other


def stored(paths: Sequence[str | Path]) -> Stored | None:
    """A base, whole, and in memory; None where no path is given.

    There is no network at hand that would say how large its tensors may be. So they may have 1024 times
    as many bytes as the file has, and 16 MiB more: no values cost less, save long rows of one number.

    Args:
        paths: the base; then, if it is a difference itself, its own base, and so on.

    Raises:
        FileError: as `opened` does, or a base is missing.
    """
    if not paths:
        return None
    path = Path(paths[0])
    with opened(path) as bundle:
        older = base_of(bundle, paths[1:])
        most = bundle.plausible
        size = sum(entry.bytes for entry in bundle.header.entries)
        if size > most:
            raise FileError(
                f"says that it holds {size:,} bytes; of a base {most:,} are the most",
                where=str(path),
                hint="pack without a base",
            )
        cut = bundle.cut(most)
        tensors = dict(bundle.tensors(Older(older, cut)))
        _, digest = bundle.end()
        return Stored(digest, tensors, cut)


def base_of(bundle: Bundle, paths: Sequence[str | Path]) -> Stored | None:
    """The base that a bundle asks for, read from the first of the paths.

    Raises:
        FileError: there is none, or it is another one; or one is given and none is asked for.
    """
    asked, where = bundle.header.base, str(bundle.path)
    if not asked:
        if paths:
            raise FileError("stands alone", where=where, hint=f"leave {paths[0]} out")
        return None
    if not paths:
        raise FileError(
            f"holds only what differs from a bundle with the checksum {asked.hex()[:16]}",
            where=where,
            hint="give that bundle as the base: --base OLD.sct",
        )
    found = stored(paths)
    if found is None or found.digest != asked:
        raise FileError(
            f"is a difference to a bundle with the checksum {asked.hex()[:16]}, not to {paths[0]}",
            where=where,
        )
    return found

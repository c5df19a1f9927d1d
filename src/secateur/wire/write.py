"""Tensors into a bundle, one after the other."""

from __future__ import annotations

import hashlib
import io
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from secateur.errors import ModelError
from secateur.files import writing
from secateur.mask.cut import Cut
from secateur.mask.modules import name_before
from secateur.wire import block
from secateur.wire.adaptive import Memory
from secateur.wire.aligned import Older, Stored
from secateur.wire.header import DIGEST, Block, Entry, Header, checksum, deflate, to_bytes
from secateur.wire.packed import Packed, PackedTensor
from secateur.wire.page import Page
from secateur.wire.planes import DTYPES
from secateur.wire.structure import Vectors

MAGIC = b"SCT\x01"
FRAME = 12  # bytes: lengths of the header, stored and not compressed, and its checksum
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """What goes into a bundle.

    Attributes:
        tensors: parameters and buffers of the network by their first names; on any device.
        cut: what leads to that network from the dense one.
        model: the MODEL text of the dense one; "" where there is none.
        record: what else shall be told; b"" for nothing.
        base: what the receiver has.
    """

    tensors: Mapping[str, Tensor]
    cut: Cut = field(default_factory=Cut)
    model: str = ""
    record: bytes = b""
    base: Stored | None = None


def write(path: str | Path, contents: Contents) -> Packed:
    """Write a bundle, atomically; equal input gives equal bytes.

    Raises:
        ModelError: a tensor is of a kind that bundles do not hold.
        FileError: the file cannot be written.
        MissingExtraError: `constriction` is not installed.
    """
    path = Path(path)
    with tempfile.TemporaryFile() as blocks:
        header, codings = _encode(contents, blocks)
        with writing(path) as file:
            size = _assemble(header, blocks, file)
    return _report(path, size, header, codings)


def measured(contents: Contents) -> Packed:
    """What `write` would write, and no file.

    Raises:
        ModelError, MissingExtraError: as `write` does.
    """
    blocks = io.BytesIO()
    header, codings = _encode(contents, blocks)
    return _report(None, _assemble(header, blocks, io.BytesIO()), header, codings)


def _encode(contents: Contents, blocks: BinaryIO) -> tuple[Header, dict[str, str]]:
    """Write the blocks, one after the other; what is left to write is the header."""
    cut, memory = contents.cut, Memory()
    page = Page(memory)
    vectors = Vectors(page)
    cuts = {
        name: tuple(
            (dim, vectors.add(stay))
            for dim, stay in sorted(cut.kept.get(name_before(cut.lists, name), {}).items())
        )
        for name in contents.tensors
    }
    lists = {path: vectors.add(stay) for path, stay in cut.lists.items()}
    structure = _stored(page, blocks)
    older, entries, codings = Older(contents.base, cut), [], {}
    for name, tensor in contents.tensors.items():
        if tensor.dtype not in DTYPES or tensor.layout is not torch.strided:
            kinds = [tensor.dtype, *([tensor.layout] if tensor.layout is not torch.strided else [])]
            raise ModelError(f"{' '.join(map(str, kinds))} cannot be packed", where=name)
        tensor = tensor.resolve_conj().resolve_neg()
        shape = tuple(tensor.shape)
        page, codings[name] = _page(tensor, older.find(name, shape, tensor.dtype), memory)
        entries.append(Entry(name, tensor.dtype, shape, cuts[name], _stored(page, blocks)))
    record = deflate(contents.record) if contents.record else b""
    blocks.write(record)
    header = Header(
        contents.model,
        b"" if contents.base is None else contents.base.digest,
        tuple(entries),
        tuple(vectors.told),
        lists,
        cut.sizes,
        structure,
        Block(b"", len(record), checksum(record)),
        len(contents.record),
    )
    return header, codings


def _page(tensor: Tensor, base: Tensor | None, memory: Memory) -> tuple[Page, str]:
    """The smallest page that holds a tensor, and how it does."""
    if base is not None and block.is_same(tensor, base):
        page = Page(memory)
        return page, block.put_same(page)
    page = Page(memory)
    coding = block.put_whole(page, tensor)
    if base is None:
        return page, coding
    change = Page(memory)
    other = block.put_changed(change, tensor, base)
    smaller = sum(map(len, change.finish())) < sum(map(len, page.finish()))
    return (change, other) if smaller else (page, coding)


def _stored(page: Page, blocks: BinaryIO) -> Block:
    """Write a page's content; what the header says of it."""
    parameters, content = page.finish()
    page.remember()
    blocks.write(content)
    return Block(parameters, len(content), checksum(content))


def _assemble(header: Header, blocks: BinaryIO, file: BinaryIO) -> int:
    """Everything in its order, and the checksum of it; how many bytes that were."""
    plain = to_bytes(header)
    stored = deflate(plain)
    frame = [len(stored), len(plain), zlib.crc32(stored)]
    begin = MAGIC + b"".join(number.to_bytes(4, "little") for number in frame) + stored
    digest, size = hashlib.sha256(), DIGEST
    blocks.seek(0)
    for piece in chain([begin], iter(lambda: blocks.read(_PIECE), b"")):
        digest.update(piece)
        file.write(piece)
        size += len(piece)
    file.write(digest.digest())
    return size


def _report(path: Path | None, size: int, header: Header, codings: Mapping[str, str]) -> Packed:
    tensors = tuple(
        PackedTensor(e.name, e.shape, codings[e.name], e.bytes, e.block.length)
        for e in header.entries
    )
    blocks = sum(block.length for block in header.blocks)
    return Packed(
        path,
        size,
        size - blocks,
        header.structure.length,
        header.record.length,
        header.base.hex() or None,
        tensors,
    )

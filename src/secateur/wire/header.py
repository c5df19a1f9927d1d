"""What a bundle says of itself before its blocks: names, shapes, codings, lengths, checksums."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from secateur.types.equation import Attribute
from secateur.wire.planes import DTYPES
from secateur.wire.varint import Reader, Writer

DIGEST = 32  # bytes of SHA-256
_DEFLATED = -15  # deflate with its largest window, and no frame around it
WORDS = (
    b"magnitude oneshot recalibrated finetuned latency_s accuracy budgets environment request certificate"
    b"torchvision:timm:demo:hf:self_attn.k_proj.v_proj.q_proj.out_proj.in_proj_weight.attention."
    b"embeddings.encoder.decoder.fc1.fc2.classifier.head.downsample.0.shortcut.stage1.blocks.layers."
    b"layer1.0.norm1.bn1.conv1.conv.features.0.0.num_batches_tracked.running_mean.running_var.bias.weight"
)
"""What deflate may refer to as if it had been written before: words that networks and runs have."""
_CHECKSUM = 2  # bytes
_DIMS = 32
_TENSORS = 1 << 16
LARGEST = 1 << 26  # bytes of a header, not compressed
_RATIO = 64  # how many times as large it may be as it is stored


@dataclass(frozen=True, slots=True)
class Block:
    """A block as the header announces it.

    Attributes:
        parameters: how it is coded.
        length: bytes of its content.
        checksum: see `checksum`.
    """

    parameters: bytes
    length: int
    checksum: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor: its name in the network that was packed, and its block.

    Attributes:
        cut: (dim, number of a vector) for every dim of the dense tensor that lost indices.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    cut: tuple[tuple[int, int], ...]
    block: Block

    @property
    def bytes(self) -> int:
        """Of the tensor in memory."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Vector:
    """A vector of bools as the header announces it.

    Attributes:
        length: how many bools are told of it.
        each: how often each of them is repeated.
        like: number of an earlier vector of which the same is told; None where it is told in a block.
    """

    length: int
    each: int
    like: int | None = None

    @property
    def size(self) -> int:
        """How many indices it has."""
        return self.length * self.each


@dataclass(frozen=True, slots=True)
class Header:
    """Everything but the contents of the blocks.

    Attributes:
        model: the MODEL text of the dense network; "" where nobody said.
        base: SHA-256 of the bundle that this one is a difference to; b"" where it stands alone.
        vectors: of bools; which indices of a dim stay.
        lists: path of a ModuleList → number of the vector that says which of its modules stay.
        sizes: attributes that hold sizes, and what they become.
        structure: the block that holds the vectors.
        record: the block that holds what else is told of a run; deflated.
        record_bytes: its length, not compressed.
    """

    model: str
    base: bytes
    entries: tuple[Entry, ...]
    vectors: tuple[Vector, ...]
    lists: Mapping[str, int]
    sizes: Mapping[Attribute, int]
    structure: Block
    record: Block
    record_bytes: int

    @property
    def dense_numbers(self) -> int:
        """How many numbers the tensors of the dense network hold that are not wholly gone."""
        total = 0
        for entry in self.entries:
            cut = {dim: self.vectors[number].size for dim, number in entry.cut}
            total += math.prod(cut.get(dim, size) for dim, size in enumerate(entry.shape))
        return total

    @property
    def blocks(self) -> tuple[Block, ...]:
        """In the order in which they follow."""
        return (self.structure, *(entry.block for entry in self.entries), self.record)


def checksum(content: bytes) -> int:
    """The lower half of the CRC-32 of a block: that of the whole file stands behind it."""
    return zlib.crc32(content) & 0xFFFF


def deflate(content: bytes) -> bytes:
    """Compress."""
    packer = zlib.compressobj(9, zlib.DEFLATED, _DEFLATED, 9, zlib.Z_DEFAULT_STRATEGY, WORDS)
    return packer.compress(content) + packer.flush()


def inflate(content: bytes | memoryview, length: int) -> bytes:
    """Inverse of `deflate`.

    Raises:
        ValueError: it is not of this length, or of one that nothing honest has.
    """
    if length > min(LARGEST, _RATIO * len(content) + 1024):
        raise ValueError(f"{len(content)} bytes are said to hold {length}")
    unpacker = zlib.decompressobj(_DEFLATED, WORDS)
    try:
        found = unpacker.decompress(content, length + 1)
    except zlib.error as error:
        raise ValueError(f"cannot be decompressed: {error}") from error
    if len(found) != length or not unpacker.eof or unpacker.unused_data:
        raise ValueError(f"{length} bytes were announced")
    return found


def to_bytes(header: Header) -> bytes:
    """The header, not compressed. Column by column: like stands beside like."""
    out, entries = Writer(), header.entries
    out.text(header.model)
    out.blob(header.base)
    out.number(len(entries))
    for entry in entries:
        out.text(entry.name)
    for entry in entries:
        out.number(DTYPES.index(entry.dtype))
    for entry in entries:
        out.number(len(entry.shape))
        for size in entry.shape:
            out.number(size)
    for entry in entries:
        out.number(len(entry.cut))
        for dim, number in entry.cut:
            out.number(dim)
            out.number(number)
    out.number(len(header.vectors))
    for vector in header.vectors:
        out.number(0 if vector.like is None else vector.like + 1)
        if vector.like is None:
            out.number(vector.length)
        out.number(vector.each)
    out.number(len(header.lists))
    for path, number in header.lists.items():
        out.text(path)
        out.number(number)
    out.number(len(header.sizes))
    for attribute, value in header.sizes.items():
        out.text(attribute.module)
        out.text(attribute.name)
        out.number(0 if attribute.index is None else attribute.index + 1)
        out.signed(attribute.value)
        out.signed(value)
    out.number(header.record_bytes)
    for block in header.blocks:
        out.blob(block.parameters)
    for block in header.blocks:
        out.number(block.length)
    for block in header.blocks:
        out.bytes += block.checksum.to_bytes(_CHECKSUM, "little")
    return bytes(out.bytes)


def from_bytes(content: bytes) -> Header:
    """Inverse of `to_bytes`.

    Raises:
        ValueError: it is no header, or names something twice or out of range.
    """
    given = Reader(content)
    model, base = given.text(), bytes(given.blob())
    if len(base) not in (0, DIGEST):
        raise ValueError(f"a base of {len(base)} bytes")
    count = given.count(least=8)
    if count > _TENSORS:
        raise ValueError(f"{count} tensors; {_TENSORS} are the most")
    names = [given.text() for _ in range(count)]
    if len(set(names)) != count:
        raise ValueError("two tensors have one name")
    dtypes = [DTYPES[given.number()] for _ in range(count)]
    shapes = [tuple(given.number() for _ in range(_few(given.number()))) for _ in range(count)]
    cuts = [
        tuple((given.number(), given.number()) for _ in range(_few(given.number())))
        for _ in range(count)
    ]
    vectors: list[Vector] = []
    for _ in range(given.count(least=2)):
        vectors.append(_vector(given, vectors))
    lists = {given.text(): given.number() for _ in range(given.count(least=2))}
    used = {vector for cut in cuts for _, vector in cut} | set(lists.values())
    if used != set(range(len(vectors))):
        raise ValueError("a vector is not there, or nothing uses it")
    sizes = dict(_size(given) for _ in range(given.count(least=5)))
    record_bytes = given.number()
    parameters = [bytes(given.blob()) for _ in range(count + 2)]
    lengths = [given.number() for _ in range(count + 2)]
    checksums = [int.from_bytes(given.raw(_CHECKSUM), "little") for _ in range(count + 2)]
    given.end()
    structure, *blocks, record = map(Block, parameters, lengths, checksums)
    entries = tuple(map(Entry, names, dtypes, shapes, cuts, blocks))
    for entry in entries:
        dims = [dim for dim, _ in entry.cut]
        if dims != sorted(set(dims)) or any(dim >= len(entry.shape) for dim in dims):
            raise ValueError(f"{entry.name} is cut along dims {dims}")
    return Header(
        model, base, entries, tuple(vectors), lists, sizes, structure, record, record_bytes
    )


def _vector(given: Reader, before: list[Vector]) -> Vector:
    like = given.number() - 1
    if like >= len(before):
        raise ValueError("a vector is like one that does not come before it")
    length = given.number() if like < 0 else before[like].length
    return Vector(length, given.number(), None if like < 0 else like)


def _size(given: Reader) -> tuple[Attribute, int]:
    module, name, index = given.text(), given.text(), given.number()
    attribute = Attribute(module, name, index - 1 if index else None, given.signed())
    return attribute, given.signed()


def _few(dims: int) -> int:
    if dims > _DIMS:
        raise ValueError(f"{dims} dims")
    return dims

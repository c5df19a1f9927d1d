"""A second reader of bundles, written from docs/format.md alone: plain Python, number by number, no coder.

It shares no code with the package, so that a file both understand means what the page says.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

TOTAL = 1 << 24
WORDS = (
    b"magnitude oneshot recalibrated finetuned latency_s accuracy budgets environment request certificate"
    b"torchvision:timm:demo:hf:self_attn.k_proj.v_proj.q_proj.out_proj.in_proj_weight.attention."
    b"embeddings.encoder.decoder.fc1.fc2.classifier.head.downsample.0.shortcut.stage1.blocks.layers."
    b"layer1.0.norm1.bn1.conv1.conv.features.0.0.num_batches_tracked.running_mean.running_var.bias.weight"
)
DTYPES = [
    ("float32", 4, True), ("float16", 2, True), ("bfloat16", 2, True), ("float64", 8, True),
    ("int64", 8, False), ("int32", 4, False), ("int16", 2, False), ("int8", 1, False),
    ("uint8", 1, False), ("bool", 1, False), ("float8_e4m3fn", 1, False),
    ("float8_e5m2", 1, False), ("complex64", 8, False), ("complex128", 16, False),
]  # fmt: skip


class Bytes:
    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0

    def raw(self, length: int) -> bytes:
        assert 0 <= length <= len(self.content) - self.at
        self.at += length
        return self.content[self.at - length : self.at]

    def number(self) -> int:
        value = shift = 0
        while True:
            byte = self.raw(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def signed(self) -> int:
        value = self.number()
        return -(value + 1) // 2 if value % 2 else value // 2

    def blob(self) -> bytes:
        return self.raw(self.number())

    def text(self) -> str:
        return self.blob().decode()


class Ans:
    def __init__(self, content: bytes) -> None:
        content += bytes(-len(content) % 4)
        self.words = [
            int.from_bytes(content[i : i + 4], "little") for i in range(0, len(content), 4)
        ]
        self.state = 0
        for _ in range(2):
            if self.words:
                self.state = self.state << 32 | self.words.pop()

    def symbol(self, frequencies: list[int]) -> int:
        low, place, symbol = self.state % TOTAL, 0, 0
        while place + frequencies[symbol] <= low:
            place += frequencies[symbol]
            symbol += 1
        self.state = self.state // TOTAL * frequencies[symbol] + low - place
        if self.state < 1 << 32 and self.words:
            self.state = self.state << 32 | self.words.pop()
        return symbol


Kind = tuple[str, int, int, int]


@dataclass
class Plain:
    """A bundle, read: what each tensor holds, as integers of its bytes, in row-major order."""

    model: str = ""
    base: bytes = b""
    tensors: dict[str, tuple[str, tuple[int, ...], list[int]]] = field(default_factory=dict)
    cuts: dict[str, dict[int, list[bool]]] = field(default_factory=dict)
    lists: dict[str, list[bool]] = field(default_factory=dict)
    sizes: dict[tuple[str, str, int | None], tuple[int, int]] = field(default_factory=dict)
    record: bytes = b""
    digest: bytes = b""


def inflate(content: bytes) -> bytes:
    return zlib.decompressobj(-15, WORDS).decompress(content)


def start(kind: Kind) -> list[int]:
    name, number, size, _ = kind
    top = {"float32": 3, "bfloat16": 1, "scales": 3}.get(name.split()[0])
    return [int(top == number and 112 <= i < 136) for i in range(size)]


def read(content: bytes, base: Plain | None = None) -> Plain:
    assert content[:4] == b"SCT\x01"
    stored, plain, checksum = struct.unpack("<III", content[4:16])
    deflated = content[16 : 16 + stored]
    assert zlib.crc32(deflated) == checksum
    inflated = inflate(deflated)
    assert len(inflated) == plain
    h, found = Bytes(inflated), Plain()
    found.model, found.base = h.text(), h.blob()
    count = h.number()
    names = [h.text() for _ in range(count)]
    dtypes = [DTYPES[h.number()] for _ in range(count)]
    shapes = [tuple(h.number() for _ in range(h.number())) for _ in range(count)]
    cuts = [[(h.number(), h.number()) for _ in range(h.number())] for _ in range(count)]
    vectors = []
    for _ in range(h.number()):
        like = h.number()
        vectors.append((like, 0 if like else h.number(), h.number()))
    lists = [(h.text(), h.number()) for _ in range(h.number())]
    for _ in range(h.number()):
        module, name, index = h.text(), h.text(), h.number()
        found.sizes[module, name, index - 1 if index else None] = (h.signed(), h.signed())
    record = h.number()
    parameters = [h.blob() for _ in range(count + 2)]
    lengths = [h.number() for _ in range(count + 2)]
    checksums = [struct.unpack("<H", h.raw(2))[0] for _ in range(count + 2)]
    assert h.at == len(inflated)
    blocks, at = [], 16 + stored
    for length, checksum in zip(lengths, checksums, strict=True):
        blocks.append(content[at : at + length])
        assert zlib.crc32(blocks[-1]) & 0xFFFF == checksum
        at += length
    found.digest = content[at:]
    assert hashlib.sha256(content[:at]).digest() == found.digest

    memory: dict[Kind, list[int]] = {}
    block = Block(parameters[0], blocks[0], memory)
    short: list[list[bool]] = []
    told: list[list[bool]] = []
    for like, length, each in vectors:
        short.append(short[like - 1] if like else block.positions(length))
        told.append([bit for bit in short[-1] for _ in range(each)])
    block.end()
    found.lists = {path: told[number] for path, number in lists}
    for name, dtype, shape, cut, p, b in zip(
        names, dtypes, shapes, cuts, parameters[1:-1], blocks[1:-1], strict=True
    ):
        block = Block(p, b, memory)
        known = base.tensors[name][2] if base and name in base.tensors else None
        found.tensors[name] = (dtype[0], shape, tensor(block, dtype, shape, known))
        found.cuts[name] = {dim: told[number] for dim, number in cut}
        block.end()
    found.record = inflate(blocks[-1]) if record else b""
    return found


def tensor(
    block: Block,
    dtype: tuple[str, int, bool],
    shape: tuple[int, ...],
    base: list[int] | None,
) -> list[int]:
    form = block.parameters.number()
    total = product(shape)
    numbers = [0] * total if form == 0 else list(base or [])
    assert len(numbers) == total
    if form == 1:
        return numbers
    leading = block.parameters.number()
    units, each = product(shape[:leading]), product(shape[leading:])
    stay = block.positions(units) if leading else [True] * units
    places = [u * each + i for u in range(units) if stay[u] for i in range(each)]
    rest = product(shape[1:])
    vector = len(shape) < 2
    channel = [0 if vector else place // rest for place in places]
    values = block.values(
        len(places),
        dtype,
        channel,
        1 if vector else shape[0],
        "vectors" if vector else "weights",
    )
    for place, value in zip(places, values, strict=True):
        numbers[place] = value
    return numbers


class Block:
    def __init__(self, parameters: bytes, content: bytes, memory: dict[Kind, list[int]]) -> None:
        self.parameters = Bytes(parameters)
        split = self.parameters.number()
        self.plain, self.ans = Bytes(content[:split]), Ans(content[split:])
        self.memory, self.seen = memory, list[tuple[Kind, list[int]]]()

    def end(self) -> None:
        assert self.parameters.at == len(self.parameters.content)
        assert self.plain.at == len(self.plain.content)
        assert self.ans.state == 0
        assert not self.ans.words
        for kind, counts in self.seen:
            before = self.memory.get(kind) or start(kind)
            self.memory[kind] = bounded([a + b for a, b in zip(before, counts, strict=True)])

    def positions(self, n: int) -> list[bool]:
        way = self.parameters.number()
        if way == 0:
            packed = self.plain.raw(-(-n // 8))
            return [bool(packed[i // 8] >> i % 8 & 1) for i in range(n)]
        if way == 1:
            symbols = self.coded(self.parameters.number(), ("runs", 0, 256, 0))
            runs, bits, now = Bytes(bytes(symbols)), list[bool](), False
            while runs.at < len(symbols):
                bits += [now] * runs.number()
                now = not now
            return bits + [now] * (n - len(bits))
        if way == 2:
            k = self.parameters.number()
            if k in (0, n):
                return [k == n] * n
            return [bool(self.ans.symbol(chance(k, n))) for _ in range(n)]
        if way == 4:
            return self.lines(n)
        width, k = self.parameters.number(), self.parameters.number()
        rows = [[False] * width for _ in range(n // width)]
        for column in range(width):
            for row in rows:
                left = max(0, k - sum(row[:column]))
                row[column] = bool(self.ans.symbol(chance(left, width - column)))
        return [bit for row in rows for bit in row]

    def lines(self, n: int) -> list[bool]:
        width, across, trust, k = (self.parameters.number() for _ in range(4))
        table = [[False] * width for _ in range(n // width)]
        count, length = (width, n // width) if across else (n // width, width)
        kept = [0] * length
        for line in range(count):
            for place in range(length):
                stays = (kept[place] * 2**16 + trust * (k * 2**16 // n)) * 2**8 // (line + trust)
                stays = min(max(stays, 1), TOTAL - 1)
                bit = self.ans.symbol([TOTAL - stays, stays])
                row, column = (place, line) if across else (line, place)
                table[row][column] = bool(bit)
                kept[place] += bit
        return [bit for row in table for bit in row]

    def values(
        self,
        n: int,
        dtype: tuple[str, int, bool],
        channel: list[int],
        channels: int,
        among: str,
    ) -> list[int]:
        if n == 0:
            return []
        name, size, turned = dtype
        if size == 1 and name.startswith("float8"):
            name = "uint8"
        if self.parameters.number() == 0:
            return self.planes(n, size, turned, f"{name} {among}")
        largest, flags = self.parameters.number(), self.parameters.number()
        scales = self.planes(channels if flags & 1 else 1, 4, True, "scales")
        size = 2 * largest + 1 + (flags >> 1 & 1)
        if flags & 4:
            symbols = self.chains(channel, channels, size)
        else:
            symbols = self.coded(n, ("codes", 0, size, size // 20))
        found = []
        for symbol, c in zip(symbols, channel, strict=True):
            scale = struct.unpack("<f", struct.pack("<I", scales[c if flags & 1 else 0]))[0]
            value = -0.0 if symbol > 2 * largest else (symbol - largest) * scale
            found.append(bits_of(value, name))
        return found

    def chains(self, channel: list[int], channels: int, size: int) -> list[int]:
        places = [[i for i, c in enumerate(channel) if c == row] for row in range(channels)]
        seen = [[0] * size for _ in range(size + 1)]
        before, found = [size] * channels, [0] * len(channel)
        for step in range(max(map(len, places))):
            followed = []
            for row in range(channels):
                if step < len(places[row]):
                    weight = [2 * s + 1 for s in seen[before[row]]]
                    expected = [1 + w * (TOTAL - size) // sum(weight) for w in weight]
                    expected[expected.index(max(expected))] += TOTAL - sum(expected)
                    symbol = self.ans.symbol(expected)
                    followed.append((before[row], symbol))
                    found[places[row][step]] = before[row] = symbol
            for last, symbol in followed:
                seen[last][symbol] += 1
        return found

    def planes(self, n: int, size: int, turned: bool, name: str) -> list[int]:
        found = [0] * n
        for number in range(size):
            kind, how = (name, number, 256, 0), self.parameters.number()
            if how == 0:
                plane = list(self.plain.raw(n))
                if n <= 4096:
                    self.seen.append((kind, [plane.count(i) for i in range(256)]))
            elif how == 1:
                plane = self.coded(n, kind)
            else:
                plane = [self.parameters.number()] * n
            found = [f | byte << 8 * number for f, byte in zip(found, plane, strict=True)]
        if turned:
            top = 8 * size - 1
            found = [f >> 1 | (f & 1) << top for f in found]
        return found

    def coded(self, n: int, kind: Kind) -> list[int]:
        size, reach = kind[2:]
        before = self.memory.get(kind) or start(kind)
        prior = [b * 256 * 64 // max(1, sum(before)) for b in before]
        own, found = [0] * size, list[int]()
        for begin, end in chunks(n):
            expected = frequencies(prior, own, reach)
            for _ in range(begin, end):
                found.append(self.ans.symbol(expected))
            for symbol in found[begin:end]:
                own[symbol] += 1
        self.seen.append((kind, own))
        return found


def chunks(n: int) -> Iterator[tuple[int, int]]:
    begin = 0
    while begin < n:
        end = min(n, begin + max(64, begin // 4))
        yield begin, end
        begin = end


def frequencies(prior: list[int], own: list[int], reach: int) -> list[int]:
    size = len(prior)
    seen = [256 * o + p for o, p in zip(bounded(own), prior, strict=True)]
    weight = [s + max(1, 256 // size) for s in seen]
    if reach and any(seen):
        box = [sum(seen[max(0, i - reach) : i + reach + 1]) for i in range(size)]
        weight = [w + b * 256 * 32 * size // sum(box) for w, b in zip(weight, box, strict=True)]
    found = [1 + w * (TOTAL - size) // sum(weight) for w in weight]
    found[found.index(max(found))] += TOTAL - sum(found)
    return found


def bounded(counts: list[int]) -> list[int]:
    while sum(counts) > 1 << 30:
        counts = [c - c // 2 for c in counts]
    return counts


def chance(left: int, of: int) -> list[int]:
    stays = min(max(left * TOTAL // of, 1), TOTAL - 1)
    return [TOTAL - stays, stays]


def bits_of(value: float, name: str) -> int:
    """A float as the integer of its bytes; the product is exact in float32."""
    single: int = struct.unpack("<I", struct.pack("<f", value))[0]
    if name == "float32":
        return single
    if name == "float16":
        half: int = struct.unpack("<H", struct.pack("<e", value))[0]
        return half
    assert name == "bfloat16"
    return single + 0x7FFF + (single >> 16 & 1) >> 16  # to the nearest, ties to even


def product(sizes: Any) -> int:
    total = 1
    for size in sizes:
        total *= size
    return total

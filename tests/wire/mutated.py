"""Bundles with something wrong in them, most with checksums that are right again: those go deepest."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import nn

from secateur import wire
from secateur.errors import SecateurError
from secateur.wire.header import Block, Header, deflate, from_bytes, inflate, to_bytes
from tests.wire.networks import bits, net, packed, pruned

EXTREMES = (0, 1, 127, 128, 255, 256, 65535, 2**31 - 1, 2**31, 2**32, 2**40, 2**62)


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A good file, and what it is loaded into."""

    name: str
    content: bytes
    network: nn.Module
    bases: tuple[Path, ...] = ()


class Tiny(nn.Module):
    """Two layers, small enough to be loaded thousands of times."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(9, 12), nn.Linear(12, 3)
        self.register_buffer("count", torch.tensor([5]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x).relu())


def cases(folder: Path) -> list[Case]:
    """Files of every kind: cut, masked, quantised, a difference, long rows of one number."""
    torch.manual_seed(0)
    tiny, whole = Tiny(), net()
    masked = copy.deepcopy(tiny)
    with torch.no_grad():
        for row in masked.first.weight:
            row[torch.randperm(9)[:6]] = 0
        masked.second.weight.copy_(
            torch.randint(-7, 8, (3, 12)) * torch.tensor([[0.5], [0.25], [3]])
        )
    changed = copy.deepcopy(masked)
    with torch.no_grad():
        changed.first.weight[:3] += 1
    constant = copy.deepcopy(tiny)
    with torch.no_grad():
        for parameter in constant.parameters():
            parameter.fill_(1)
    found = []
    for name, model, fresh, plan in (
        ("tiny", tiny, Tiny(), None),
        ("masked", masked, Tiny(), None),
        ("constant", constant, Tiny(), None),
        ("cut", *_cut(whole)),
    ):
        path = folder / f"{name}.sct"
        packed(path, model, plan, model="demo:x", record=b'{"a": 1}')
        found.append(Case(name, path.read_bytes(), fresh))
    base = folder / "masked.sct"
    packed(folder / "changed.sct", changed, base=wire.stored([base]))
    content = (folder / "changed.sct").read_bytes()
    return [*found, Case("difference", content, Tiny(), (base,))]


def _cut(model: nn.Module) -> tuple[nn.Module, nn.Module, object]:
    small, plan = pruned(model)
    return small, net(1), plan


def load(case: Case, content: bytes, path: Path) -> str:
    """Load mutated bytes: "loaded", or the class of the error that says what is wrong."""
    path.write_bytes(content)
    try:
        wire.load(path, lambda header: case.network, case.bases)
    except SecateurError as error:
        return type(error).__name__
    return "loaded"


def mutated(content: bytes, others: Sequence[bytes], draw: random.Random) -> bytes:
    """The file with something wrong in it."""
    if draw.random() < 0.15:
        return _edited(content, others, draw)
    header, blocks = taken_apart(content)
    what = draw.random()
    if what < 0.3:
        plain = _edited(to_bytes(header), [to_bytes(taken_apart(o)[0]) for o in others[:1]], draw)
        return sealed(plain, blocks)
    number = draw.randrange(len(blocks))
    old = header.blocks[number]
    if what < 0.6:
        blocks[number] = _edited(
            blocks[number], [b for o in others for b in taken_apart(o)[1]], draw
        )
        if draw.random() < 0.2:
            blocks[number] = blocks[number].rstrip(b"\0")
        new = Block(old.parameters, len(blocks[number]), zlib.crc32(blocks[number]) & 0xFFFF)
    else:
        new = Block(_numbers(old.parameters, draw), old.length, old.checksum)
    header = _with_block(header, number, new)
    if what > 0.9 and header.entries:
        header = _with_lie(header, draw)
    return sealed(to_bytes(header), blocks)


@cache
def _apart(content: bytes) -> tuple[Header, tuple[bytes, ...]]:
    stored, plain = (int.from_bytes(content[i : i + 4], "little") for i in (4, 8))
    header = from_bytes(inflate(content[16 : 16 + stored], plain))
    at, blocks = 16 + stored, []
    for block in header.blocks:
        blocks.append(content[at : at + block.length])
        at += block.length
    return header, tuple(blocks)


def taken_apart(content: bytes) -> tuple[Header, list[bytes]]:
    """Header and blocks of a good file."""
    header, blocks = _apart(content)
    return header, list(blocks)


def sealed(plain: bytes, blocks: Sequence[bytes]) -> bytes:
    """A file with this header, whatever it says, and checksums that are right."""
    stored = deflate(plain)
    frame = (len(stored), len(plain), zlib.crc32(stored))
    content = b"SCT\x01" + b"".join(n.to_bytes(4, "little") for n in frame) + stored
    content += b"".join(blocks)
    return content + hashlib.sha256(content).digest()


def _with_block(header: Header, number: int, new: Block) -> Header:
    if number == 0:
        return dataclasses.replace(header, structure=new)
    if number > len(header.entries):
        return dataclasses.replace(header, record=new)
    entries = list(header.entries)
    entries[number - 1] = dataclasses.replace(entries[number - 1], block=new)
    return dataclasses.replace(header, entries=tuple(entries))


def _with_lie(header: Header, draw: random.Random) -> Header:
    """Another shape, cut, base, or length of the record."""
    entries = list(header.entries)
    number = draw.randrange(len(entries))
    entry, size = entries[number], draw.choice(EXTREMES)
    match draw.randrange(4):
        case 0:
            shape = tuple(size if draw.random() < 0.5 else s for s in entry.shape)
            entries[number] = dataclasses.replace(entry, shape=shape)
        case 1:
            entries[number] = dataclasses.replace(entry, name=draw.choice(entries).name)
        case 2:
            return dataclasses.replace(header, base=draw.randbytes(32))
        case _:
            return dataclasses.replace(header, record_bytes=size)
    return dataclasses.replace(header, entries=tuple(entries))


def _numbers(content: bytes, draw: random.Random) -> bytes:
    """One of the numbers in parameters, replaced by another one."""
    from secateur.wire.varint import Reader, Writer

    given, numbers = Reader(content), []
    while given.left:
        numbers.append(given.number())
    if numbers and draw.random() < 0.8:
        at = draw.randrange(len(numbers))
        numbers[at] = draw.choice((*EXTREMES, numbers[at] + 1, max(0, numbers[at] - 1), 2, 3))
    elif numbers and draw.random() < 0.5:
        del numbers[draw.randrange(len(numbers))]
    else:
        numbers.insert(draw.randrange(len(numbers) + 1), draw.choice(EXTREMES))
    out = Writer()
    for number in numbers:
        out.number(number)
    return bytes(out.bytes)


def _edited(content: bytes, others: Sequence[bytes], draw: random.Random) -> bytes:
    """Bytes changed, added, taken out, doubled, or taken from elsewhere."""
    found = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        at = draw.randrange(len(found) + 1)
        length = draw.choice((1, 1, 2, 4, 16))
        match draw.randrange(8):
            case 0 | 1 if found:
                found[draw.randrange(len(found))] ^= 1 << draw.randrange(8)
            case 2 if found:
                found[draw.randrange(len(found))] = draw.choice((0, 1, 127, 128, 255))
            case 3:
                found[at:at] = draw.randbytes(length)
            case 4:
                del found[at : at + length]
            case 5:
                del found[at:]
            case 6:
                found[at:at] = found[at : at + length]
            case _ if others:
                other = draw.choice(others)
                begin = draw.randrange(len(other) + 1)
                found[at : at + length] = other[begin : begin + length]
    return bytes(found)


def contents(network: nn.Module) -> dict[str, bytes]:
    """Every tensor's bits, to see that a refused file changed nothing."""
    state = dict(network.named_parameters()) | dict(network.named_buffers())
    return {name: bits(tensor) for name, tensor in state.items()}

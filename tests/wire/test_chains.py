"""Codes of few values, each expected by the one before it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur import wire
from secateur.errors import FileError
from secateur.wire import chains
from secateur.wire.entropy import Decoder, Encoder
from secateur.wire.header import to_bytes
from tests.wire import plain_reader
from tests.wire.mutated import sealed, taken_apart
from tests.wire.networks import bits


@given(st.lists(st.integers(0, 30), min_size=1, max_size=12), st.integers(2, 4), st.integers(0, 99))
def test_there_and_back(lengths: list[int], size: int, seed: int) -> None:
    counts = np.array(lengths)
    symbols = np.random.default_rng(seed).integers(0, size, counts.sum()).astype(np.int32)
    encoder = Encoder()
    cost, steps = chains.weigh(symbols, counts, size)
    chains.put(encoder, steps)
    content = encoder.finish()
    assert 8 * len(content) <= cost + 40
    decoder = Decoder(content)
    assert chains.take(decoder, counts, size).tolist() == symbols.tolist()
    decoder.end()
    block = plain_reader.Block(b"\0", content, {})
    channel = np.repeat(np.arange(counts.size), counts).tolist()
    if symbols.size:
        assert block.chains(channel, counts.size, size) == symbols.tolist()


def _signs(rows: int, length: int, turns: float) -> torch.Tensor:
    """Signs of which each is the one before it, but for a share."""
    draw = torch.Generator().manual_seed(0)
    turn = torch.rand(rows, length, generator=draw) < turns
    return 1.0 - 2.0 * (turn.cumsum(1) % 2)


def test_signs_of_neighbours(tmp_path: Path) -> None:
    """A tenth of the signs turn: 0.469 bits each, and not 1."""
    signs = _signs(200, 300, 0.1) * torch.rand(200, 1)
    told = wire.write(tmp_path / "f", wire.Contents({"t": signs}))
    scales = 200 * 4
    assert told.tensors[0].bytes < 0.475 * signs.numel() / 8 + scales
    found = wire.stored([tmp_path / "f"])
    assert found is not None
    assert bits(found.tensors["t"]) == bits(signs)
    plain = plain_reader.read((tmp_path / "f").read_bytes())
    content = bits(signs)
    whole = [int.from_bytes(content[i : i + 4], "little") for i in range(0, len(content), 4)]
    assert plain.tensors["t"][2] == whole


def test_what_is_no_chain(tmp_path: Path) -> None:
    """Four bits have too many values, a vector has one channel: flags that say otherwise lie."""
    assert not chains.fits(np.array([3, 3]), 5)
    assert not chains.fits(np.array([3]), 3)
    assert not chains.fits(np.array([4097, 3]), 3)
    path = tmp_path / "f"
    wire.write(path, wire.Contents({"t": torch.arange(-7.0, 8).repeat(2, 9)}))
    header, blocks = taken_apart(path.read_bytes())
    old = header.entries[0].block
    wrong = bytearray(old.parameters)
    wrong[wrong.rindex(7) + 1] |= 4  # the flags, behind the largest code
    block = dataclasses.replace(old, parameters=bytes(wrong))
    entry = dataclasses.replace(header.entries[0], block=block)
    path.write_bytes(sealed(to_bytes(dataclasses.replace(header, entries=(entry,))), blocks))
    with pytest.raises(FileError, match="no chains"):
        wire.stored([path])

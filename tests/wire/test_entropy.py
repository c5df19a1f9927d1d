"""The coder: exact, short, and deaf to nonsense."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.errors import MissingExtraError
from secateur.wire import entropy
from secateur.wire.adaptive import Kind, Memory, chunks, frequencies, take, weigh
from secateur.wire.entropy import TOTAL, Decoder, Encoder
from tests.wire import plain_reader


@given(st.data(), st.integers(2, 300), st.integers(0, 2**32 - 1))
def test_what_was_put_is_taken(data: st.DataObject, size: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    encoder, steps = Encoder(), []
    for _ in range(data.draw(st.integers(0, 4))):
        count = data.draw(st.integers(0, 50))
        each = data.draw(st.booleans())
        weights = draw.integers(0, 1000, (count, size) if each else size)
        found = 1 + weights * (TOTAL - size) // np.maximum(1, weights.sum(-1, keepdims=True))
        found[..., 0] += TOTAL - found.sum(-1)
        symbols = draw.integers(0, size, count).astype(np.int32)
        steps.append((symbols, found))
        encoder.put(symbols, found)
    content = encoder.finish()
    decoder, plain = Decoder(content), plain_reader.Ans(content)
    for symbols, found in steps:
        assert decoder.take(symbols.size, found).tolist() == symbols.tolist()
        rows = found if found.ndim == 2 else [found] * symbols.size
        assert [plain.symbol(row.tolist()) for row in rows] == symbols.tolist()
    decoder.end()


def test_frequencies_are_taken_as_they_are() -> None:
    """A symbol of frequency f costs 24 - log2 f bits, to the last."""
    found = np.array([1, 3, 1 << 20, TOTAL - 4 - (1 << 20)])
    for symbol, frequency in enumerate(found):
        encoder = Encoder()
        encoder.put(np.full(1000, symbol, np.int32), found)
        encoder.put(
            np.array([3], np.int32), found
        )  # first symbols alone cost nothing: the state is 0
        expected = 1000 * (24 - np.log2(frequency)) / 8
        assert len(encoder.finish()) == pytest.approx(expected, rel=1e-3, abs=5)


@given(st.binary(max_size=60))
def test_nonsense_gives_symbols_and_does_not_end(content: bytes) -> None:
    if content.endswith(b"\0"):
        with pytest.raises(ValueError, match="zero"):
            Decoder(content)
        return
    decoder = Decoder(content)
    assert decoder.take(20, np.array([TOTAL // 2, TOTAL // 2])).max() < 2
    if len(content) > 8:
        with pytest.raises(ValueError, match="do not end"):
            decoder.end()


@given(
    st.lists(st.integers(0, 2**33), min_size=2, max_size=300),
    st.integers(0, 40),
    st.integers(0, 2**32 - 1),
)
def test_frequencies_add_up_and_are_those_of_the_page(
    own: list[int], reach: int, seed: int
) -> None:
    before = np.random.default_rng(seed).integers(0, 2**20, len(own))
    kind, memory = Kind("x", 0, len(own), reach), Memory()
    memory.add(kind, before)
    found = frequencies(memory.prior([kind])[0], np.array(own), reach)
    assert found.sum() == TOTAL
    assert found.min() >= 1
    prior = [b * 256 * 64 // max(1, int(before.sum())) for b in before.tolist()]
    assert found.tolist() == plain_reader.frequencies(prior, own, reach)


@given(st.integers(0, 10**7))
def test_chunks_cover_everything(length: int) -> None:
    assert list(chunks(length)) == list(plain_reader.chunks(length))
    assert sum(end - begin for begin, end in chunks(length)) == length


@settings(max_examples=30)
@given(st.integers(0, 5000), st.integers(2, 256), st.integers(0, 2**32 - 1))
def test_learned_frequencies(count: int, size: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    symbols = np.minimum(draw.geometric(0.2, count) - 1, size - 1).astype(np.int32)
    kind, memory, other = Kind("x", 0, size), Memory(), Memory()
    encoder = Encoder()
    for _ in range(2):
        (coded,) = weigh([symbols], [kind], memory)
        coded.put(encoder)
        memory.add(kind, coded.counts)
    decoder = Decoder(encoder.finish())
    for _ in range(2):
        found, counts = take(decoder, count, [kind], other)
        assert found.tolist() == [symbols.tolist()]
        other.add(kind, counts[0])
    decoder.end()


@given(st.integers(0, 700), st.integers(2, 40), st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_rows_together_are_rows_by_themselves(count: int, size: int, reach: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    rows = draw.integers(0, size, (3, count)).astype(np.uint8)
    kinds, memory = [Kind("x", number, size, reach) for number in range(3)], Memory()
    memory.add(kinds[1], draw.integers(0, 1000, size))
    together, encoder = weigh(list(rows), kinds, memory), Encoder()
    for coded, row, kind in zip(together, rows, kinds, strict=True):
        (alone,) = weigh([row], [kind], memory)
        assert coded.counts.tolist() == alone.counts.tolist()
        assert coded.bits == pytest.approx(alone.bits)
        for (_, left), (_, right) in zip(coded.steps, alone.steps, strict=True):
            assert left.tolist() == right.tolist()
        coded.put(encoder)
    found, counts = take(Decoder(encoder.finish()), count, kinds, memory)
    assert found.tolist() == rows.tolist()
    assert counts.tolist() == [coded.counts.tolist() for coded in together]


def test_it_comes_near_the_entropy() -> None:
    """Half a per cent above the order-0 entropy of what was drawn, model and all."""
    symbols = np.clip(np.random.default_rng(0).normal(127, 25, 100_000).round(), 0, 254)
    symbols = symbols.astype(np.int32)
    share = np.bincount(symbols) / symbols.size
    limit = -(share[share > 0] * np.log2(share[share > 0])).sum() * symbols.size
    (coded,) = weigh([symbols], [Kind("codes", 0, 255, 6)], Memory())
    assert limit < coded.bits < 1.005 * limit
    encoder = Encoder()
    coded.put(encoder)
    assert 8 * len(encoder.finish()) == pytest.approx(coded.bits, abs=64)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "constriction", None)
    entropy._stream.cache_clear()
    with pytest.raises(MissingExtraError, match=r"secateur\[wire\]"):
        Encoder()
    monkeypatch.undo()
    entropy._stream.cache_clear()

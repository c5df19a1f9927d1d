"""Numbers and texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.wire.varint import Reader, Writer

NUMBERS = st.integers(0, 2**63 - 1)


@given(st.lists(NUMBERS), st.lists(st.integers(-(2**62), 2**62 - 1)), st.text())
def test_what_was_written_is_read(numbers: list[int], signed: list[int], text: str) -> None:
    out = Writer()
    for value in numbers:
        out.number(value)
    for value in signed:
        out.signed(value)
    out.text(text)
    given = Reader(bytes(out.bytes))
    assert [given.number() for _ in numbers] == numbers
    assert [given.signed() for _ in signed] == signed
    assert given.text() == text
    given.end()


def test_known_bytes() -> None:
    out = Writer()
    for value in (0, 127, 128, 300):
        out.number(value)
    for value in (0, -1, 1, -64):
        out.signed(value)
    assert out.bytes.hex() == "007f8001ac02" + "0001027f"


@pytest.mark.parametrize("value", [-1, 2**63])
def test_what_cannot_be_written(value: int) -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        Writer().number(value)


@pytest.mark.parametrize(
    "content", [b"", b"\x80", b"\x80\x00", b"\xff" * 9 + b"\x01", b"\xff" * 20]
)
def test_numbers_that_lie(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"announced|longer|end"):
        Reader(content).number()


def test_lengths_that_lie() -> None:
    for read in (Reader.blob, Reader.text, Reader.count):
        with pytest.raises(ValueError, match="announced"):
            read(Reader(b"\xff\x7fabc"))
    with pytest.raises(ValueError, match="announced"):
        Reader(b"\x02abc").count(least=2)
    with pytest.raises(ValueError, match="left over"):
        Reader(b"a").end()
    with pytest.raises(ValueError, match="utf-8"):
        Reader(b"\x01\xff").text()

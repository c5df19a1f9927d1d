"""Whole numbers and texts as few bytes, written one after the other."""

from __future__ import annotations

_LONGEST = 9  # bytes of a number: 63 bits


class Writer:
    """Bytes, from first to last."""

    def __init__(self) -> None:
        self.bytes = bytearray()

    def number(self, value: int) -> None:
        """Seven bits a byte, the lowest first; the top bit says that more follow."""
        if not 0 <= value < 1 << 63:
            raise ValueError(f"{value} cannot be written")
        while value > 127:
            self.bytes.append(value & 127 | 128)
            value >>= 7
        self.bytes.append(value)

    def signed(self, value: int) -> None:
        """0, -1, 1, -2, ... as 0, 1, 2, 3, ..."""
        self.number(value * 2 if value >= 0 else -value * 2 - 1)

    def text(self, text: str) -> None:
        """Length in bytes, then UTF-8."""
        self.blob(text.encode())

    def blob(self, content: bytes) -> None:
        """Length, then content."""
        self.number(len(content))
        self.bytes += content


class Reader:
    """What a `Writer` wrote, with nothing believed: no length reaches beyond the end."""

    def __init__(self, content: bytes | memoryview) -> None:
        self._content, self._place = memoryview(content), 0

    @property
    def left(self) -> int:
        """Bytes that were not read yet."""
        return len(self._content) - self._place

    def raw(self, length: int) -> memoryview:
        """The next bytes, not copied.

        Raises:
            ValueError: there are fewer.
        """
        if not 0 <= length <= self.left:
            raise ValueError(f"{length} bytes are announced and {self.left} are there")
        self._place += length
        return self._content[self._place - length : self._place]

    def byte(self) -> int:
        """The next byte."""
        if self._place == len(self._content):
            raise ValueError("a byte is announced and none is there")
        self._place += 1
        return self._content[self._place - 1]

    def number(self) -> int:
        """Inverse of `Writer.number`; a number that could be shorter is refused."""
        value = 0
        for place in range(_LONGEST):
            byte = self.byte()
            value |= (byte & 127) << 7 * place
            if byte < 128:
                if byte == 0 and place:
                    raise ValueError("a number is longer than it needs to be")
                return value
        raise ValueError("a number does not end")

    def signed(self) -> int:
        """Inverse of `Writer.signed`."""
        value = self.number()
        return -(value + 1) // 2 if value & 1 else value // 2

    def count(self, least: int = 1) -> int:
        """How many things follow, of at least so many bytes each."""
        value = self.number()
        if value * least > self.left:
            raise ValueError(f"{value} entries are announced and {self.left} bytes are there")
        return value

    def text(self) -> str:
        """Inverse of `Writer.text`."""
        return bytes(self.blob()).decode()

    def blob(self) -> memoryview:
        """Inverse of `Writer.blob`."""
        return self.raw(self.number())

    def end(self) -> None:
        """Raise `ValueError` unless all was read."""
        if self.left:
            raise ValueError(f"{self.left} bytes are left over")

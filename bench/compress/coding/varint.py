"""Reads numbers and bytes from an untrusted file, and checks every step against what is left of it."""

from __future__ import annotations

from bench.errors import InvalidInput


def varint(value: int) -> bytes:
    """A whole number, 0 or more, in as many bytes as it needs: 7 bits each, the lowest first (LEB128)."""
    found = bytearray()
    while value >= 128:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


class Reader:
    """A position in `content`. `name`: what messages call the file."""

    def __init__(self, content: bytes, name: str) -> None:
        self.content = content
        self.name = name
        self.place = 0

    def take(self, count: int) -> bytes:
        """The next bytes. Raises `InvalidInput` where there are fewer."""
        if count > len(self.content) - self.place:
            raise InvalidInput(f"{self.name}: cut off: {count} bytes wanted at {self.place} of {len(self.content)}")
        self.place += count
        return self.content[self.place - count : self.place]

    def varint(self, *, most: int, what: str) -> int:
        """The next number. Raises `InvalidInput` where it is above `most`."""
        value, shift = 0, 0
        while True:
            (byte,) = self.take(1)
            value |= (byte & 127) << shift
            shift += 7
            if value > most or shift > 63:
                raise InvalidInput(f"{self.name}: {what} is over {most}")
            if byte < 128:
                return value

"""Flatbuffers without a generated schema: a table's fields by their numbers."""

from __future__ import annotations

import struct
from collections.abc import Iterator


class FlatTable:
    """One table of a flatbuffer.

    Fields are counted as in the schema, deprecated ones too; a union takes two, its type and then its table. Numbers beyond
    the end of the data raise `struct.error`, as those of a damaged file do.
    """

    def __init__(self, data: bytes | memoryview, position: int) -> None:
        self._data, self._position = data, position
        self._fields = position - self._read("i", position)
        self._size = self._read("H", self._fields)

    @classmethod
    def root(cls, data: bytes | memoryview, start: int = 0) -> FlatTable:
        """The table of a buffer that begins at `start`."""
        return cls(data, start + struct.unpack_from("<I", data, start)[0])

    def number(self, field: int, kind: str, default: int = 0) -> int:
        """A number; kind: its letter in the module `struct`."""
        at = self._at(field)
        return default if at is None else self._read(kind, at)

    def text(self, field: int) -> str:
        at = self._at(field)
        if at is None:
            return ""
        start, size = self._vector(at)
        return bytes(self._data[start : start + size]).decode("utf-8", "replace")

    def table(self, field: int) -> FlatTable | None:
        at = self._at(field)
        return None if at is None else FlatTable(self._data, at + self._read("I", at))

    def tables(self, field: int) -> Iterator[FlatTable]:
        at = self._at(field)
        start, size = (0, 0) if at is None else self._vector(at)
        for place in range(start, start + 4 * size, 4):
            yield FlatTable(self._data, place + self._read("I", place))

    def numbers(self, field: int, kind: str) -> tuple[int, ...]:
        """A vector of numbers; kind: their letter in the module `struct`."""
        at = self._at(field)
        start, size = (0, 0) if at is None else self._vector(at)
        return struct.unpack_from(f"<{size}{kind}", self._data, start)

    def _at(self, field: int) -> int | None:
        place = 4 + 2 * field
        offset = self._read("H", self._fields + place) if place < self._size else 0
        return self._position + offset if offset else None

    def _vector(self, at: int) -> tuple[int, int]:
        start = at + self._read("I", at)
        size = self._read("I", start)
        if size > len(self._data):
            raise struct.error(f"a vector of {size} in {len(self._data)} bytes")
        return start + 4, size

    def _read(self, kind: str, at: int) -> int:
        if at < 0:
            raise struct.error(f"position {at}")
        return int(struct.unpack_from(f"<{kind}", self._data, at)[0])

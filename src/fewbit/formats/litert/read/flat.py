"""Flatbuffers with every offset, vtable and length checked before it is followed, so that a hostile file cannot do harm.

https://flatbuffers.dev/internals: a table begins with the distance back to its vtable, which has its own size, the size of
the table and the place of each field in it; strings, vectors and other tables are named by their distance ahead.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewbit.errors import ModelError

_READ_AT_LEAST = 1 << 16
_READ_TIMES = 8
"""What may be read in all, in sizes of the file: parts that share bytes (a table in a vector a million times) would let a
small file ask for any amount of work. Writers share vtables and equal strings at most."""


class FlatFile:
    """The bytes of a file."""

    def __init__(self, data: bytes | memoryview, label: str) -> None:
        self.data = memoryview(data)
        self.label = label
        self._left = _READ_AT_LEAST + _READ_TIMES * len(self.data)

    def __len__(self) -> int:
        return len(self.data)

    def damaged(self, why: str) -> ModelError:
        """The error for a file that breaks the format."""
        return ModelError(f"{self.label} is a truncated or damaged LiteRT file: {why}; copy it again")

    def span(self, start: int, size: int, what: str) -> memoryview:
        """`size` bytes from `start`. Raises ModelError where the file has none."""
        if start < 0 or size < 0 or start + size > len(self.data):
            raise self.damaged(f"{what} at byte {start} lies outside of its {len(self.data)} bytes")
        self._left -= size
        if self._left < 0:
            raise self.damaged(f"its parts share bytes and are more than {_READ_TIMES} times its size")
        return self.data[start : start + size]

    def number(self, code: str, start: int, what: str) -> int:
        """One number in the code of `struct`, little-endian."""
        return int(struct.unpack("<" + code, self.span(start, struct.calcsize(code), what))[0])

    def root(self) -> Table:
        """The table that the file is."""
        return self.table(self.number("I", 0, "the root"), "the root")

    def table(self, start: int, what: str) -> Table:
        vtable = start - self.number("i", start, what)
        size = self.number("H", vtable, f"the vtable of {what}")
        extent = self.number("H", vtable + 2, f"the vtable of {what}")
        if size < 4 or size % 2:
            raise self.damaged(f"the vtable of {what} has {size} bytes")
        self.span(start, extent, what)
        fields = np.frombuffer(self.span(vtable + 4, size - 4, f"the vtable of {what}"), "<u2")
        if fields.size and int(fields.max()) >= max(extent, 1):
            raise self.damaged(f"a field of {what} lies outside of it")
        return Table(self, start, tuple(fields.tolist()), what)

    def ahead(self, start: int, what: str) -> int:
        """Where the offset at `start` leads."""
        return start + self.number("I", start, what)


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose vtable is checked; fields are asked for by their number in the schema."""

    file: FlatFile
    start: int
    fields: tuple[int, ...]
    what: str

    def number(self, slot: int, code: str, default: int = 0) -> int:
        """A number, or `default` where it is not stored."""
        place = self._place(slot)
        return default if place is None else self.file.number(code, place, self.what)

    def text(self, slot: int) -> str:
        """A string; what is no UTF-8 in it is replaced."""
        found = self._vector(slot, 1)
        return "" if found is None else bytes(found[0]).decode(errors="replace")

    def array(self, slot: int, dtype: str) -> NDArray[np.generic] | None:
        """A vector of numbers of a numpy dtype, or None."""
        kind = np.dtype(dtype)
        found = self._vector(slot, kind.itemsize)
        return None if found is None else np.frombuffer(found[0], kind)

    def place(self, slot: int) -> tuple[int, int]:
        """Where the bytes of a vector of bytes begin, and how many there are."""
        found = self._vector(slot, 1, count_only=True)
        return (0, 0) if found is None else (found[1], found[2])

    def table(self, slot: int, what: str) -> Table | None:
        place = self._place(slot)
        return None if place is None else self.file.table(self.file.ahead(place, what), what)

    def tables(self, slot: int, what: str) -> list[Table]:
        """The tables of a vector of tables."""
        found = self._vector(slot, 4)
        if found is None:
            return []
        starts = np.frombuffer(found[0], "<u4").tolist()
        return [self.file.table(found[1] + 4 * i + ahead, f"{what} {i}") for i, ahead in enumerate(starts)]

    def lengths(self, slot: int) -> int:
        """How many entries a vector of tables has."""
        found = self._vector(slot, 4)
        return 0 if found is None else found[2]

    def _place(self, slot: int) -> int | None:
        field = self.fields[slot] if slot < len(self.fields) else 0
        return self.start + field if field else None

    def _vector(self, slot: int, width: int, *, count_only: bool = False) -> tuple[memoryview, int, int] | None:
        """The bytes of a vector, where they begin, and the number of entries; only their place is checked if asked."""
        place = self._place(slot)
        if place is None:
            return None
        start = self.file.ahead(place, self.what)
        count = self.file.number("I", start, f"a vector of {self.what}")
        what = f"a vector of {count} entries of {self.what}"
        if count_only:
            if start + 4 + count * width > len(self.file):
                raise self.file.damaged(f"{what} at byte {start} lies outside of its {len(self.file)} bytes")
            return self.file.data[:0], start + 4, count
        return self.file.span(start + 4, count * width, what), start + 4, count

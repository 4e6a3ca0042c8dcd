"""Arrays of many samples, kept in memory up to a limit and beyond it in files of a temporary folder."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fewbit.errors import OutputError


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an array lies in its file."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(slots=True)
class _Row:
    """The arrays of one name by sample, and the file of those that are not in memory."""

    held: dict[int, NDArray[Any] | _Place] = field(default_factory=dict)
    file: BinaryIO | None = None
    size: int = 0


class Shelf:
    """Arrays by name and sample; `memory` bytes of them are held, the others written. Files go with `discard` or `close`."""

    def __init__(self, memory: int) -> None:
        self.memory = memory
        self.in_memory = self.on_disk = 0
        self._rows: dict[str, _Row] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._files = 0

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    def put(self, name: str, sample: int, array: NDArray[Any]) -> None:
        """Keep an array.

        Raises:
            OutputError: the temporary folder is full.
        """
        row = self._rows.setdefault(name, _Row())
        if self.in_memory + array.nbytes <= self.memory:
            row.held[sample] = array
            self.in_memory += array.nbytes
            return
        try:
            if row.file is None:
                row.file = self._open()
            row.file.seek(row.size)
            row.file.write(np.ascontiguousarray(array).data)
            row.file.flush()
        except OSError as error:
            raise OutputError(
                f"activations of the samples do not fit the temporary folder {tempfile.gettempdir()} ({error.strerror}): "
                "point TMPDIR to a folder with more space, or give fewer samples with --limit"
            ) from error
        row.held[sample] = _Place(row.size, array.shape, array.dtype)
        row.size += array.nbytes
        self.on_disk += array.nbytes

    def get(self, name: str, sample: int) -> NDArray[Any]:
        """The array of a name and sample that was put."""
        row = self._rows[name]
        place = row.held[sample]
        if not isinstance(place, _Place):
            return place
        assert row.file is not None
        array = np.empty(place.shape, place.dtype)
        row.file.seek(place.offset)
        row.file.readinto(array.reshape(-1).view(np.uint8).data)  # type: ignore[attr-defined]
        return array

    def discard(self, name: str, sample: int) -> None:
        """Let go of one array, if it is there; the file of a name goes with its last array."""
        row = self._rows.get(name)
        place = None if row is None else row.held.pop(sample, None)
        if row is None or place is None:
            return
        if not isinstance(place, _Place):
            self.in_memory -= place.nbytes
        if not row.held:
            self._remove(row)
            del self._rows[name]

    def names(self) -> list[str]:
        return list(self._rows)

    def close(self) -> None:
        """Remove all files."""
        for row in self._rows.values():
            self._remove(row)
        self._rows.clear()
        self.in_memory = 0
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _remove(self, row: _Row) -> None:
        if row.file is not None:
            with suppress(OSError):  # what a full disk did not take is not missed
                row.file.close()
            Path(row.file.name).unlink()
            self.on_disk -= row.size

    def _open(self) -> BinaryIO:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="fewbit-")
        self._files += 1
        return open(Path(self._folder.name) / str(self._files), "w+b")

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from fewbit.errors import ModelError
from fewbit.formats.litert.read.door import read_litert
from fewbit.formats.litert.read.metadata import litert_metadata
from tests.formats.litert.build import Tflite


def with_metadata() -> bytes:
    t = Tflite()
    t.op("RELU", [t.input((2,))], (2,))
    buffer = t.api.BufferT()
    buffer.data = np.frombuffer(b"\x00mean 127\xff", np.uint8)
    t.model.buffers.append(buffer)
    entry = t.api.MetadataT()
    entry.name, entry.buffer = b"TFLITE_METADATA", len(t.model.buffers) - 1
    t.model.metadata = [entry]
    t.model.description = b"A test"
    return t.data()


def attached(data: bytes, files: dict[str, bytes]) -> bytes:
    archive = io.BytesIO(data)
    with zipfile.ZipFile(archive, "a") as made:
        for name, content in files.items():
            made.writestr(name, content, zipfile.ZIP_DEFLATED)
    return archive.getvalue()


def test_entries_and_files() -> None:
    data = attached(with_metadata(), {"labels.txt": b"cat\ndog\n"})
    found = litert_metadata(data)
    assert found.description == "A test"
    assert found.entries == {"TFLITE_METADATA": b"\x00mean 127\xff"}
    assert found.files == {"labels.txt": b"cat\ndog\n"}
    assert len(read_litert(data).model.graph) == 1


def test_none() -> None:
    t = Tflite()
    t.op("RELU", [t.input((2,))], (2,))
    found = litert_metadata(t.data())
    assert (found.entries, found.files) == ({}, {})


def test_attached_files_that_unpack_to_far_more() -> None:
    with pytest.raises(ModelError, match="times its own size: it is refused"):
        litert_metadata(attached(with_metadata(), {"big": bytes(1 << 25)}))


def test_a_damaged_archive() -> None:
    data = bytearray(attached(with_metadata(), {"labels.txt": b"cat\ndog\n" * 99}))
    place = data.index(b"labels.txt") + 12
    data[place] ^= 255
    with pytest.raises(ModelError, match="archive of attached files"):
        litert_metadata(bytes(data))

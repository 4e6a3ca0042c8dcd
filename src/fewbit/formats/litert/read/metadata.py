"""What a file carries beside its graph: named buffers (such as TFLITE_METADATA: normalization, labels) and attached files."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fewbit.errors import ModelError
from fewbit.formats.litert.read.file import LiteRTFile, read_bytes

_MOST_TIMES = 64
_MOST_ADDED = 1 << 24
"""Attached files may unpack to so many times the size of the model file, and so many bytes more."""


@dataclass(frozen=True, slots=True)
class LiteRTMetadata:
    """Raw bytes, as an export can write them back.

    entries: name → bytes, of the buffers that `Model.metadata` names, in the file's order. files: name → bytes, of what is
    attached as a zip archive behind the model. description: the model's own.
    """

    description: str
    entries: Mapping[str, bytes]
    files: Mapping[str, bytes]


def litert_metadata(source: str | Path | bytes) -> LiteRTMetadata:
    """The metadata of a .tflite file, or of its bytes.

    Raises:
        ModelError: the file is damaged, or what is attached would unpack to far more than the file.
    """
    label = "the model" if isinstance(source, bytes) else str(source)
    data = source if isinstance(source, bytes) else read_bytes(Path(source))
    file = LiteRTFile(data, label)
    entries = {name: bytes(file.bytes_of(buffer)) for name, buffer in file.metadata}
    return LiteRTMetadata(file.description, entries, _attached(data, label))


def _attached(data: bytes, label: str) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            total = sum(info.file_size for info in infos)
            if total > _MOST_TIMES * len(data) + _MOST_ADDED:
                raise ModelError(
                    f"{label} has attached files of {total} bytes, {_MOST_TIMES} times its own size: it is refused"
                )
            return {info.filename: archive.read(info) for info in infos}
    except zipfile.BadZipFile as error:
        if "not a zip file" in str(error):
            return {}
        raise ModelError(f"{label} has a damaged archive of attached files ({error}); copy it again") from error
    except (zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError) as error:
        raise ModelError(f"{label} has an archive of attached files that cannot be read ({error})") from error

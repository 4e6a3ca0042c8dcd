"""Whether a file is LiteRT's, told by its content without loading anything, and what it carries beside its graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

IDENTIFIER = b"TFL3"
"""At byte 4 of every .tflite file."""


@dataclass(frozen=True, slots=True)
class LiteRTMetadata:
    """Raw bytes, as an export can write them back.

    description: the model's own. entries: name → bytes, of the buffers that `Model.metadata` names, in the file's order.
    files: name → bytes, of what is attached as a zip archive behind the model. signature: the key of the one that the model
    is; None where the file has none.
    """

    description: str = ""
    entries: Mapping[str, bytes] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    signature: str | None = None


def is_litert(model: Any) -> bool:
    """Whether a model is the path of a .tflite file; False for one that cannot be read: who opens it as a model says why."""
    if not isinstance(model, str | Path) or not Path(model).is_file():
        return False
    try:
        with open(model, "rb") as file:
            return file.read(8)[4:] == IDENTIFIER
    except OSError:
        return False

"""Whether a file is LiteRT's, told by its content without loading anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

IDENTIFIER = b"TFL3"
"""At byte 4 of every .tflite file."""


def is_litert(model: Any) -> bool:
    """Whether a model is the path of a .tflite file; False for one that cannot be read: who opens it as a model says why."""
    if not isinstance(model, str | Path) or not Path(model).is_file():
        return False
    try:
        with open(model, "rb") as file:
            return file.read(8)[4:] == IDENTIFIER
    except OSError:
        return False

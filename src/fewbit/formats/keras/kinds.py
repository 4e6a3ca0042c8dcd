"""Whether a path is a Keras file or a SavedModel, told by its content without loading anything."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

_KERAS_PARTS = {"config.json", "metadata.json"}
_HDF5 = b"\x89HDF\r\n"


def is_keras(model: Any) -> bool:
    """Whether a model is the path of a `.keras` archive, of a Keras `.h5` file or of a SavedModel's folder."""
    if not isinstance(model, str | Path):
        return False
    path = Path(model)
    if path.is_dir():
        return (path / "saved_model.pb").is_file()
    if not path.is_file():
        return False
    try:
        with open(path, "rb") as file:
            if file.read(len(_HDF5)) == _HDF5:
                return True
        with zipfile.ZipFile(path) as archive:
            return set(archive.namelist()) >= _KERAS_PARTS
    except (OSError, zipfile.BadZipFile):
        return False

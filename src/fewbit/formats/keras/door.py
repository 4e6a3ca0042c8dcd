"""The door: TensorFlow makes a LiteRT file, which the LiteRT door reads."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from fewbit.errors import ModelError
from fewbit.extras import load_extra
from fewbit.formats.litert.read.door import Imported, read_litert
from fewbit.runtimes.quiet import quiet_native


def import_keras(path: str | Path, *, signature: str | None = None) -> Imported:
    """Import a Keras file or a SavedModel.

    No Python code in a file is run: Keras loads in its safe mode, which refuses Lambda layers and unknown classes.

    Args:
        path: a `.keras` or `.h5` file, or the folder of a SavedModel.
        signature: of a SavedModel: the key of the one to import; None: the first.

    Raises:
        MissingExtraError: tensorflow is not installed.
        ModelError: TensorFlow cannot load or convert it; its own words are in the message.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with quiet_native():
        tensorflow = load_extra("tensorflow", "A Keras file or SavedModel")
        with tempfile.TemporaryDirectory(prefix="fewbit-") as folder:
            saved = Path(path) if Path(path).is_dir() else _saved(tensorflow, Path(path), Path(folder))
            content = _converted(tensorflow, saved, Path(path), signature)
    read = read_litert(content)
    return Imported(read.model, (f"converted by TensorFlow {tensorflow.__version__}", *read.notes))


def _saved(tensorflow: Any, path: Path, folder: Path) -> Path:
    """A Keras file as a SavedModel, which the converter reads."""
    try:
        model = tensorflow.keras.models.load_model(path, compile=False, safe_mode=True)
        model.export(str(folder), verbose=False)
    except Exception as error:  # Keras raises whatever its layers raise
        raise ModelError(
            f"{path}: Keras cannot load it without running code that it holds, or cannot export it ({_words(error)}); save it "
            "as a SavedModel (model.export(folder)) where it was made, and give the folder"
        ) from error
    return folder


def _converted(tensorflow: Any, saved: Path, path: Path, signature: str | None) -> bytes:
    keys = None if signature is None else [signature]
    try:
        converter = tensorflow.lite.TFLiteConverter.from_saved_model(str(saved), signature_keys=keys)
        return bytes(converter.convert())
    except Exception as error:  # the converter raises its own class, ValueError, and what MLIR throws
        raise ModelError(
            f"{path}: TensorFlow cannot convert it to LiteRT ({_words(error)}); operators that LiteRT does not have must be "
            "replaced in the model"
        ) from error


def _words(error: Exception) -> str:
    """What an error says, in one line: the first of the converter's, which lists pages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]

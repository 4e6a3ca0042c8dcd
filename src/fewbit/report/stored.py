"""The document of `fewbit auto` in its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fewbit.errors import InputError
from fewbit.report.document import parse

NAME = "auto.json"


def read_document(folder: Path) -> dict[str, Any]:
    """Read and check DIR/auto.json.

    Raises:
        InputError: no such folder or file, not JSON, of another schema version, or not what `fewbit auto` writes.
    """
    path = folder / NAME
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give one that fewbit auto made with -o")
    try:
        data = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
    except FileNotFoundError as error:
        raise InputError(f"{folder} has no {NAME}: give a folder that fewbit auto made with -o") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}): run fewbit auto again") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): give a file that can") from error
    if not isinstance(data, dict):
        raise InputError(
            f"{path} holds a {type(data).__name__}, not the document of fewbit auto: run fewbit auto again"
        )
    parse(data, str(path))
    return data

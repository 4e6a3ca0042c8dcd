"""How work is handed to other processes: as bytes, and what all of it needs as one file that each reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewbit.errors import FewbitError


class Shared:
    """A value that many pieces of work need, such as samples in memory: written once; whoever unpickles this gets the value.

    path: where it is written, and read under the same name by all that work.

    Raises:
        FewbitError: it cannot be pickled.
    """

    def __init__(self, value: Any, path: Path, what: str) -> None:
        self.path = path
        path.write_bytes(packed(value, what))

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return unpacked_file, (str(self.path),)


def packed(value: Any, what: str) -> bytes:
    """A value as bytes, objects of the user's own script included.

    Raises:
        FewbitError: it cannot be pickled; `what` is whose it is.
    """
    import cloudpickle

    try:
        data: bytes = cloudpickle.dumps(value)
    except Exception as error:  # whatever the user's objects raise
        raise FewbitError(
            f"{what}: what was given cannot be handed to another process ({type(error).__name__}: {error}); give "
            "FILE.py:NAME instead of an object"
        ) from error
    return data


def unpacked_file(path: str) -> Any:
    """The value of a file that `packed` made."""
    import cloudpickle

    with open(path, "rb") as file:
        return cloudpickle.load(file)


def call_of(function: str, arguments: Mapping[str, Any], label: str) -> bytes:
    """A function, by its name `module:name`, and its arguments."""
    return packed((function, dict(arguments)), label)

"""What a PyTorch object or file is, told without importing torch: a file by its content, never by its name."""

from __future__ import annotations

import zipfile
from collections import Counter
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import Any

from fewbit.errors import ModelError
from fewbit.graph.sniff import is_safetensors

ZIP = b"PK\x03\x04"
_PICKLE = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_START = 4096


class Kind(Enum):
    """The kinds of files that come in here."""

    PROGRAM = "an exported program (.pt2)"
    SCRIPT = "a TorchScript archive"
    PICKLE = "a file of torch.save"
    SAFETENSORS = "a safetensors file"


def is_torch_object(model: Any) -> bool:
    """Whether a model in memory is PyTorch's: a module, a TorchScript function or an exported program."""
    return any(kind.__module__.partition(".")[0] == "torch" for kind in type(model).__mro__)


def kind_of(path: Path) -> Kind | None:
    """The kind of a file, or None for one that is not PyTorch's, or cannot be read.

    Raises:
        ModelError: a damaged archive, or one with members outside of it.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(_START)
    except OSError:
        return None  # whoever opens it as a model says why
    if start.startswith(ZIP):
        return _kind_of_archive(members(path))
    if start.startswith(_PICKLE):
        return Kind.PICKLE
    return Kind.SAFETENSORS if is_safetensors(start, path.stat().st_size) else None


def needs_example(model: Any) -> bool:
    """Whether an example of its inputs is needed to import it: an exported program has one."""
    if isinstance(model, str | Path):
        return kind_of(Path(model)) is not Kind.PROGRAM
    return type(model).__name__ != "ExportedProgram"


def members(path: Path) -> list[str]:
    """The names in a zip archive.

    Raises:
        ModelError: the archive is damaged, a name leads out of it, or two are the same: torch and Python would see two
            different members. Torch looks names up without regard to case.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise ModelError(f"{path} is a truncated or damaged archive ({error}); copy or save it again") from error
    for name in names:
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts:
            raise ModelError(f"{path} is refused: its member {name!r} leads out of the archive")
    twice = [name for name, count in Counter(name.lower() for name in names).items() if count > 1]
    if twice:
        raise ModelError(f"{path} is refused: its member {twice[0]!r} is there twice; save it again")
    return names


def _kind_of_archive(names: list[str]) -> Kind | None:
    # Archives of torch hold all they have in one folder of any name; programs saved before torch 2.8 hold it at the top.
    inner = {name.partition("/")[2] for name in names}
    if "archive_format" in inner or "serialized_exported_program.json" in names:
        return Kind.PROGRAM
    if "data.pkl" in inner:
        return Kind.SCRIPT if "constants.pkl" in inner else Kind.PICKLE
    return None

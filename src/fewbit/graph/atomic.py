"""Write a file completely or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from fewbit.errors import OutputError


@contextmanager
def atomic_files(*paths: Path) -> Iterator[list[BinaryIO]]:
    """Files open for writing that appear under their names together, when the block ends without an error.

    They are written beside their destination and renamed, in the order given, so that a destination never holds half a
    file. On an error nothing is left, and a file that was there before is unchanged.

    Raises OutputError when a file cannot be written: no such folder, no permission, a full disk.
    """
    targets = [Path(os.path.realpath(path)) for path in paths]
    temporary: list[Path] = []
    files: list[BinaryIO] = []
    shown = targets[-1]
    try:
        for target in targets:
            shown = target
            _check_target(target)
            name = target.parent / f".{target.name}.{os.getpid()}.tmp"
            files.append(open(name, "wb"))  # noqa: SIM115  (closed below)
            temporary.append(name)
        yield files
        for target, file in zip(targets, files, strict=True):
            shown = target
            file.flush()
            os.fsync(file.fileno())
            file.close()
        for target, name in zip(targets, temporary, strict=True):
            shown = target
            os.replace(name, target)
    except OSError as error:
        raise OutputError(f"{shown} cannot be written: {error.strerror or error}") from error
    finally:
        for file in files:
            with suppress(OSError):  # closing flushes, which fails again on a full disk; that was reported above
                file.close()
        for name in temporary:
            name.unlink(missing_ok=True)


def _check_target(target: Path) -> None:
    if target.is_dir():
        raise OutputError(f"{target} is a folder; give a file name in it")
    if target.exists() and not target.is_file():
        raise OutputError(f"{target} is not a regular file; give another name")
    if not target.parent.is_dir():
        raise OutputError(f"{target} cannot be written: the folder {target.parent} does not exist")

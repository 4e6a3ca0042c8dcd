"""The process in which a piece of work runs: `python -m fewbit.search.worker FOLDER`.

It reads `task` from the folder, tells its progress on stdout, and writes `result.json` whole or not at all. It ends when the
process that started it does: its standard input closes then.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from fewbit.progress import Advance

_SECONDS_BETWEEN = 0.2  # of two lines about progress


class Piped:
    """Progress told to the process that waits: a JSON line each time."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream

    @contextmanager
    def task(self, label: str, total: int | None) -> Iterator[Advance]:
        done, told = 0, 0.0

        def advance(steps: int) -> None:
            nonlocal done, told
            done += steps
            if time.monotonic() - told >= _SECONDS_BETWEEN:
                told = time.monotonic()
                self._tell({"label": label, "done": done, "total": total})

        self._tell({"label": label, "done": 0, "total": total})
        yield advance

    def note(self, text: str) -> None:
        self._tell({"note": text})

    def _tell(self, line: dict[str, Any]) -> None:
        self.stream.write(json.dumps(line) + "\n")
        self.stream.flush()


def main() -> None:
    folder = Path(sys.argv[1])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what others print is no progress
    write_result(folder, run_task(folder, Piped(told)))


def run_task(folder: Path, progress: Piped) -> dict[str, Any]:
    """What the task of a folder gives: `{"done": result}`, or `{"failed": reason}` where fewbit says what is wrong."""
    from fewbit.errors import FewbitError
    from fewbit.search.handing import unpacked_file

    function, arguments = unpacked_file(str(folder / "task"))
    module, name = function.split(":")
    try:
        return {"done": getattr(import_module(module), name)(**arguments, folder=folder, progress=progress)}
    except FewbitError as error:
        return {"failed": " ".join(str(error).split())}


def write_result(folder: Path, result: dict[str, Any]) -> None:
    temporary = folder / "result.tmp"
    temporary.write_text(json.dumps(result, allow_nan=False))
    os.replace(temporary, folder / "result.json")


def _end_with_parent() -> None:
    while os.read(0, 1):  # not by sys.stdin, whose lock the interpreter wants when it ends
        pass
    os._exit(1)


if __name__ == "__main__":
    main()

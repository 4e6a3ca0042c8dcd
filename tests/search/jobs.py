"""Work for the tests of the executor: it succeeds, fails, dies and hangs."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.errors import DataError
from fewbit.progress import Progress


def double(value: int, folder: Path, progress: Progress) -> dict[str, Any]:
    with progress.task("doubling", 1) as advance:
        advance(1)
    (folder / "made.txt").write_text(str(2 * value))
    print("what others print is no progress")
    return {"value": 2 * value}


def total(values: NDArray[np.int64], folder: Path, progress: Progress) -> dict[str, Any]:
    return {"total": int(values.sum())}


def refuse(folder: Path, progress: Progress) -> dict[str, Any]:
    raise DataError("sample 3 holds\nNaN")


def break_down(folder: Path, progress: Progress) -> dict[str, Any]:
    raise ZeroDivisionError("no such number")


def die(folder: Path, progress: Progress) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGSEGV)
    return {}


def hang(folder: Path, progress: Progress) -> dict[str, Any]:
    (folder.parent / "pid").write_text(str(os.getpid()))
    time.sleep(600)
    return {}


def stamp(folder: Path, progress: Progress) -> dict[str, Any]:
    begun = time.monotonic()
    time.sleep(0.3)
    return {"begun": begun, "ended": time.monotonic()}


def kill_worker_once(folder: Path, progress: Progress) -> dict[str, Any]:
    """The first time, take the process along that waits for this one."""
    count = folder.parent / "attempts"
    attempts = int(count.read_text()) + 1 if count.exists() else 1
    count.write_text(str(attempts))
    if attempts == 1:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    return {"attempts": attempts}

"""Work in processes of its own, so that what crashes or hangs there is a result and not the end."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from fewbit.search.handing import call_of

_POLL_SECONDS = 0.2
_LAST_WORDS = 300  # characters of what a process that died wrote last


@dataclass(frozen=True, slots=True)
class Task:
    """Work to be done.

    function: `module:name`, called with the arguments, the folder where it may leave files, and a progress; gives plain data.
    arguments: anything that cloudpickle takes. exclusive: nothing else runs beside it, as it measures time.
    """

    key: str
    label: str
    function: str
    arguments: Mapping[str, Any] = field(repr=False)
    exclusive: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a task: `done` with plain data, `failed` with a reason, or `stopped` by the deadline.

    folder: where it left files, the caller's to take from or remove.
    """

    task: Task
    state: str
    result: Mapping[str, Any]
    seconds: float
    folder: Path


class Executor(Protocol):
    """Runs tasks; outcomes come as they are there. folder: where they work. workers: how many at once."""

    folder: Path
    workers: int

    def run(
        self,
        tasks: Sequence[Task],
        *,
        timeout: float,
        deadline: float | None,
        begun: Callable[[Task], None],
        ended: Callable[[Outcome], None],
        heard: Callable[[Task, Mapping[str, Any]], None],
    ) -> None:
        """Run all tasks.

        Args:
            timeout: seconds for each. deadline: time.monotonic() at which all that is left is stopped.
        """


class LocalExecutor:
    """Processes on this machine, `workers` at once.

    folder: where they work, and leave files.
    """

    def __init__(self, folder: Path, workers: int = 1) -> None:
        self.folder, self.workers = folder, workers

    def run(
        self,
        tasks: Sequence[Task],
        *,
        timeout: float,
        deadline: float | None,
        begun: Callable[[Task], None],
        ended: Callable[[Outcome], None],
        heard: Callable[[Task, Mapping[str, Any]], None],
    ) -> None:
        """See `Executor`."""
        waiting, running = list(tasks), list[Child]()
        try:
            while waiting or running:
                if deadline is not None and time.monotonic() >= deadline:
                    for task in waiting:
                        ended(_not_begun(task, self.folder))
                    waiting.clear()
                while waiting and self._may_start(waiting[0], running):
                    task = waiting.pop(0)
                    call = call_of(task.function, task.arguments, task.label)
                    begun(task)
                    running.append(Child(task, Path(tempfile.mkdtemp(prefix=f"{task.key}-", dir=self.folder)), call))
                _wait(running)
                for child in list(running):
                    child.listen(heard)
                    outcome = child.outcome(timeout, deadline)
                    if outcome is not None:
                        running.remove(child)
                        ended(outcome)
        finally:
            for child in running:
                child.kill()
                shutil.rmtree(child.folder, ignore_errors=True)

    def _may_start(self, task: Task, running: Sequence[Child]) -> bool:
        if task.exclusive or any(child.task.exclusive for child in running):
            return not running
        return len(running) < self.workers


def _not_begun(task: Task, folder: Path) -> Outcome:
    """Of a task for which no time was left."""
    return Outcome(task, "stopped", {"reason": "the time was up"}, 0.0, Path(tempfile.mkdtemp(dir=folder)))


class Child:
    """A process at work. call: of `call_of`."""

    def __init__(self, task: Task, folder: Path, call: bytes) -> None:
        self.task, self.folder = task, folder
        (folder / "task").write_bytes(call)
        self.log = open(folder / "log", "wb")  # noqa: SIM115  (closed when the process has ended)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fewbit.search.worker", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env=_environment(),
            start_new_session=True,
        )
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self.started = time.monotonic()
        self._heard = b""

    def listen(self, heard: Callable[[Task, Mapping[str, Any]], None]) -> None:
        assert self.process.stdout is not None
        self._heard += self.process.stdout.read() or b""
        *lines, self._heard = self._heard.split(b"\n")
        for line in lines:
            heard(self.task, json.loads(line))

    def outcome(self, timeout: float, deadline: float | None) -> Outcome | None:
        """What came of it; None while it works."""
        now = time.monotonic()
        code = self.process.poll()
        if code is None:
            if deadline is not None and now >= deadline:
                return self._end("stopped", {"reason": "the time was up"})
            if now - self.started >= timeout:
                return self._end("failed", {"reason": f"it hung: stopped after {timeout:.0f} s"})
            return None
        result = self.folder / "result.json"
        if not result.exists():
            return self._end("failed", {"reason": self._death(code)})
        found = json.loads(result.read_text())
        if "failed" in found:
            return self._end("failed", {"reason": found["failed"]})
        return self._end("done", found["done"])

    def _death(self, code: int) -> str:
        words = (self.folder / "log").read_text(errors="replace").strip().splitlines()
        last = f": {words[-1][:_LAST_WORDS]}" if words else ""
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        return f"its process {how}{last}"

    def _end(self, state: str, result: Mapping[str, Any]) -> Outcome:
        self.kill()
        return Outcome(self.task, state, result, time.monotonic() - self.started, self.folder)

    def kill(self) -> None:
        """The process, and those that it started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.log):
            assert stream is not None
            stream.close()


def _wait(running: Sequence[Child]) -> None:
    """Until one of them says something or ends, or a moment has passed."""
    with selectors.DefaultSelector() as selector:
        for child in running:
            assert child.process.stdout is not None
            selector.register(child.process.stdout, selectors.EVENT_READ)
        selector.select(_POLL_SECONDS)
    time.sleep(0.01)  # a process that just closed its end is about to be gone


def _environment() -> dict[str, str]:
    """What this process can import, the other one can too; denormals and threads as the command sets them."""
    path = os.pathsep.join(filter(None, sys.path))
    return {"OPENBLAS_NUM_THREADS": "1", **os.environ, "PYTHONPATH": path, "FEWBIT_FLUSH_DENORMALS": "1"}

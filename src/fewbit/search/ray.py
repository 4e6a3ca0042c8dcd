"""Work on a Ray cluster. Its nodes see the session's folder, the model and the samples under the same paths.

Each piece still has a process of its own, as on one machine: what crashes or hangs there takes no worker of the cluster
with it. A worker that is lost is Ray's to replace, and its piece is begun again. What measures time runs here, where
the model will run.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fewbit.errors import RecipeError
from fewbit.extras import load_extra
from fewbit.search.executor import Child, LocalExecutor, Outcome, Task
from fewbit.search.handing import call_of

_RETRIES = 3
_POLL_SECONDS = 0.5
_KNOCK_SECONDS = 10.0


class RayExecutor:
    """A cluster, by its address: `ray://HOST:PORT`, or `auto` for the one that this machine belongs to.

    folder: where work is done, and files are left. workers: the cluster's CPUs.

    Raises:
        RecipeError: no cluster answers there. MissingExtraError: ray is not installed.
    """

    def __init__(self, folder: Path, address: str) -> None:
        self._ray = load_extra("ray", "a search on a cluster")
        self.folder = folder.absolute()
        self._local = LocalExecutor(self.folder)
        try:
            _knock(address)
            if not self._ray.is_initialized():
                self._ray.init(address=address, log_to_driver=False, configure_logging=False, logging_level="error")
        except (ConnectionError, OSError, RuntimeError, ValueError) as error:
            raise RecipeError(
                f"workers {address}: no Ray cluster answers ({' '.join(str(error).split())[:200]}); start one with "
                "`ray start --head`, or give a number of local processes"
            ) from error
        self.workers = max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        self._remote = self._ray.remote(num_cpus=1, max_retries=_RETRIES)(_work)

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
        waiting = {}
        for task in tasks:
            if not task.exclusive:
                call = call_of(task.function, task.arguments, task.label)
                begun(task)
                named = replace(task, arguments={})  # the call holds them
                waiting[self._remote.remote(named, call, str(self.folder), timeout)] = (task, time.monotonic())
        try:
            while waiting:
                ready, _ = self._ray.wait([*waiting], num_returns=1, timeout=_POLL_SECONDS)
                for reference in ready:
                    task, started = waiting.pop(reference)
                    ended(self._outcome(reference, task, started))
                if deadline is not None and time.monotonic() >= deadline:
                    break
        finally:
            for reference, (task, started) in waiting.items():
                self._ray.cancel(reference, force=True)
                folder = Path(tempfile.mkdtemp(dir=self.folder))
                ended(Outcome(task, "stopped", {"reason": "the time was up"}, time.monotonic() - started, folder))
        exclusive = [task for task in tasks if task.exclusive]
        self._local.run(exclusive, timeout=timeout, deadline=deadline, begun=begun, ended=ended, heard=heard)

    def _outcome(self, reference: Any, task: Task, started: float) -> Outcome:
        try:
            state, result, seconds, folder = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            why = f"the cluster lost it {_RETRIES + 1} times: {' '.join(str(error).split())[:200]}"
            folder = tempfile.mkdtemp(dir=self.folder)
            return Outcome(task, "failed", {"reason": why}, time.monotonic() - started, Path(folder))
        # A folder of its own in any case: the caller removes it.
        return Outcome(task, state, result, seconds, Path(folder or tempfile.mkdtemp(dir=self.folder)))


def _knock(address: str) -> None:
    """Raise OSError where nothing listens: Ray itself would wait for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), timeout=_KNOCK_SECONDS).close()


def _work(task: Task, call: bytes, folder: str, timeout: float) -> tuple[str, dict[str, Any], float, str]:
    """One piece, on a node of the cluster: state, result, seconds, and the folder of its files, if it has one."""
    if not os.path.isdir(folder):
        reason = (
            f"node {os.uname().nodename} does not see {folder}: a cluster needs a file system that all of it shares"
        )
        return "failed", {"reason": reason}, 0.0, ""
    child = Child(task, Path(tempfile.mkdtemp(prefix=f"{task.key}-", dir=folder)), call)
    try:
        while (outcome := child.outcome(timeout, None)) is None:
            child.listen(lambda task, line: None)
            time.sleep(_POLL_SECONDS)
    except BaseException:
        child.kill()
        shutil.rmtree(child.folder, ignore_errors=True)
        raise
    return outcome.state, dict(outcome.result), outcome.seconds, str(outcome.folder)

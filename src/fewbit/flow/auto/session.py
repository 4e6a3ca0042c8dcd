"""A search's session: work is looked up, or done and kept, within the time there is."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewbit.search.executor import Executor, Outcome, Task
from fewbit.search.handing import Shared
from fewbit.search.store import Finished, Store, work_key

_OWN_FILES = ("task", "log", "result.json", "result.tmp")
_PLACES = {name: f"fewbit.flow.auto.{name}" for name in ("sensitivity", "layer_noise", "costs")}
_WORK = "fewbit.flow.auto.work"


class OutOfTimeError(Exception):
    """The time that was given is over; what is finished is kept."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Work to look up or to do.

    kind: a function of `fewbit.flow.auto.work`, or one with a module of its own name. label: for people. asked: plain
    data, all that it depends on beside the setup. arguments: what the function is called with.
    """

    kind: str
    label: str
    asked: Mapping[str, Any]
    arguments: Mapping[str, Any]
    exclusive: bool = False

    @property
    def key(self) -> str:
        return work_key(self.kind, self.asked)


@dataclass(frozen=True, slots=True)
class Answer:
    """What work gave, and the folder of the files that it left."""

    finished: Finished
    files: Path

    @property
    def ok(self) -> bool:
        return self.finished.state == "done"


class Session:
    """Work of one search, in one folder.

    timeout: seconds for a piece of work. deadline: time.monotonic() at which work is stopped; None: never.
    heard: called with the key of work and what it tells of its progress.
    """

    def __init__(
        self,
        store: Store,
        executor: Executor,
        *,
        timeout: float,
        deadline: float | None = None,
    ) -> None:
        self.store, self.executor = store, executor
        self.timeout, self.deadline = timeout, deadline
        self.heard: Callable[[str, Mapping[str, Any]], None] = lambda key, line: None
        self._kept = store.folder / "kept"
        self._kept.mkdir(exist_ok=True)

    def left(self) -> float:
        """Seconds until the deadline."""
        return float("inf") if self.deadline is None else self.deadline - time.monotonic()

    def share(self, value: Any, name: str) -> Shared:
        """A value that all work needs, which is written once.

        Raises:
            FewbitError: it cannot be handed to other processes.
        """
        return Shared(value, self.executor.folder / name, name)

    def do(self, asks: Sequence[Ask]) -> list[Answer]:
        """The answers, in order; each is kept as soon as it is there.

        Raises:
            OutOfTimeError: the deadline came first.
        """
        missing = {ask.key: ask for ask in asks if self.store.finished(ask.key) is None}
        if missing and self.left() <= 0:
            raise OutOfTimeError
        stopped: list[Outcome] = []

        def ended(outcome: Outcome) -> None:
            try:
                if outcome.state == "stopped":
                    stopped.append(outcome)
                    return
                self._keep(outcome)
                state = "done" if outcome.state == "done" else "failed"
                self.store.finish(outcome.task.key, state, outcome.result, outcome.seconds)  # type: ignore[arg-type]
            finally:
                shutil.rmtree(outcome.folder, ignore_errors=True)

        if missing:
            self.executor.run(
                [
                    Task(key, ask.label, f"{_PLACES.get(ask.kind, _WORK)}:{ask.kind}", ask.arguments, ask.exclusive)
                    for key, ask in missing.items()
                ],
                timeout=self.timeout,
                deadline=self.deadline,
                begun=lambda task: self.store.begin(task.key, missing[task.key].kind, task.label),
                ended=ended,
                heard=lambda task, line: self.heard(task.key, line),
            )
        if stopped:
            raise OutOfTimeError
        return [self._answer(ask.key) for ask in asks]

    def one(self, ask: Ask) -> Answer:
        return self.do([ask])[0]

    def _answer(self, key: str) -> Answer:
        finished = self.store.finished(key)
        assert finished is not None
        return Answer(finished, self._kept / key)

    def _keep(self, outcome: Outcome) -> None:
        """Move the files that work left to where they stay, before it counts as finished."""
        for name in _OWN_FILES:
            (outcome.folder / name).unlink(missing_ok=True)
        for path in outcome.folder.iterdir():
            _flush(path)
        kept = self._kept / outcome.task.key
        shutil.rmtree(kept, ignore_errors=True)  # of an attempt that was killed between this and its end
        if any(outcome.folder.iterdir()):
            os.replace(outcome.folder, kept)


def _flush(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())

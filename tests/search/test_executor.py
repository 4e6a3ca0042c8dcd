from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewbit.errors import FewbitError
from fewbit.search.executor import LocalExecutor, Outcome, Task
from fewbit.search.handing import Shared, call_of


def run(
    folder: Path, tasks: Sequence[Task], *, workers: int = 1, timeout: float = 60.0, deadline: float | None = None
) -> tuple[dict[str, Outcome], list[Any]]:
    outcomes: dict[str, Outcome] = {}
    heard: list[Any] = []
    LocalExecutor(folder, workers).run(
        tasks,
        timeout=timeout,
        deadline=deadline,
        begun=lambda task: heard.append(task.key),
        ended=lambda outcome: outcomes.setdefault(outcome.task.key, outcome),
        heard=lambda task, line: heard.append((task.key, line)),
    )
    return outcomes, heard


def task(key: str, name: str, exclusive: bool = False, **arguments: Any) -> Task:
    return Task(key, key, f"tests.search.jobs:{name}", arguments, exclusive)


def test_results_files_and_progress(tmp_path: Path) -> None:
    outcomes, heard = run(tmp_path, [task("a", "double", value=3), task("b", "double", value=4)])
    assert {key: (o.state, o.result) for key, o in outcomes.items()} == {
        "a": ("done", {"value": 6}),
        "b": ("done", {"value": 8}),
    }
    assert (outcomes["b"].folder / "made.txt").read_text() == "8"
    assert ("a", {"label": "doubling", "done": 0, "total": 1}) in heard


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("refuse", "sample 3 holds NaN"),
        ("break_down", "its process ended with code 1: ZeroDivisionError: no such number"),
        ("die", "its process was killed by SIGSEGV"),
    ],
)
def test_what_fails_is_a_result(tmp_path: Path, name: str, reason: str) -> None:
    outcomes, _ = run(tmp_path, [task("bad", name), task("good", "double", value=1)])
    assert outcomes["bad"].state == "failed" and outcomes["bad"].result == {"reason": reason}
    assert outcomes["good"].state == "done"


def test_what_hangs_is_stopped_and_recorded(tmp_path: Path) -> None:
    outcomes, _ = run(tmp_path, [task("bad", "hang"), task("good", "double", value=1)], timeout=8.0)
    assert outcomes["bad"].state == "failed" and outcomes["bad"].result == {"reason": "it hung: stopped after 8 s"}
    assert outcomes["good"].state == "done"
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_the_deadline_stops_all(tmp_path: Path) -> None:
    begun = time.monotonic()
    outcomes, _ = run(tmp_path, [task("a", "hang"), task("b", "double", value=1)], deadline=begun + 1.0)
    assert {o.state for o in outcomes.values()} == {"stopped"}


def test_workers_run_at_once_but_not_beside_what_measures_time(tmp_path: Path) -> None:
    tasks = [task("a", "stamp"), task("b", "stamp"), task("c", "stamp", exclusive=True), task("d", "stamp")]
    outcomes, _ = run(tmp_path, tasks, workers=2)
    times = {key: (o.result["begun"], o.result["ended"]) for key, o in outcomes.items()}
    for other in "abd":
        assert times["c"][0] >= times[other][1] or times["c"][1] <= times[other][0]


def test_work_ends_with_the_process_that_asked_for_it(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.search.test_executor import run, task\n"
        "run(Path(sys.argv[1]), [task('a', 'hang')])"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child = int((tmp_path / "pid").read_text())
    parent.kill()
    parent.wait()
    while time.monotonic() < deadline:
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("the process at work outlived the one that asked")


def test_what_cannot_be_handed_over_says_so(tmp_path: Path) -> None:
    with pytest.raises(FewbitError, match="cannot be handed to another process"):
        run(tmp_path, [task("a", "double", value=threading.Lock())])


def test_what_all_work_needs_is_written_once(tmp_path: Path) -> None:
    needed = np.arange(100_000)
    call = call_of("tests.search.jobs:total", {"values": Shared(needed, tmp_path / "needed", "samples")}, "a")
    assert len(call) < 1000  # and not again with every piece
    outcomes, _ = run(tmp_path, [task("a", "total", values=Shared(needed, tmp_path / "needed", "samples"))])
    assert outcomes["a"].result == {"total": int(needed.sum())}


def test_what_cannot_be_shared_says_so(tmp_path: Path) -> None:
    with pytest.raises(FewbitError, match="samples: what was given cannot be handed to another process"):
        Shared(threading.Lock(), tmp_path / "needed", "samples")

"""Work on a real Ray cluster of two nodes on this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fewbit
from fewbit.errors import RecipeError
from fewbit.search.executor import Outcome, Task
from fewbit.search.ray import RayExecutor, _work

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray's own warnings
ray = pytest.importorskip("ray", reason="ray is not installed")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    from ray.cluster_utils import Cluster

    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    made.add_node(num_cpus=1)
    made.wait_for_nodes()
    yield made.address
    ray.shutdown()
    made.shutdown()


def run(
    executor: RayExecutor, tasks: list[Task], timeout: float = 60.0, deadline: float | None = None
) -> dict[str, Outcome]:
    outcomes: dict[str, Outcome] = {}
    executor.run(
        tasks,
        timeout=timeout,
        deadline=deadline,
        begun=lambda task: None,
        ended=lambda outcome: outcomes.setdefault(outcome.task.key, outcome),
        heard=lambda task, line: None,
    )
    return outcomes


def task(key: str, name: str, **arguments: Any) -> Task:
    return Task(key, key, f"tests.search.jobs:{name}", arguments)


def test_results_and_failures(cluster: str, tmp_path: Path) -> None:
    executor = RayExecutor(tmp_path, cluster)
    assert executor.workers == 2
    outcomes = run(executor, [task("a", "double", value=3), task("b", "die"), task("c", "refuse")])
    assert outcomes["a"].result == {"value": 6} and (outcomes["a"].folder / "made.txt").read_text() == "6"
    assert outcomes["b"].result == {"reason": "its process was killed by SIGSEGV"}
    assert outcomes["c"].result == {"reason": "sample 3 holds NaN"}


def test_the_deadline_stops_what_is_left(cluster: str, tmp_path: Path) -> None:
    outcomes = run(RayExecutor(tmp_path, cluster), [task("a", "hang")], deadline=time.monotonic() + 3)
    assert outcomes["a"].state == "stopped"


def test_a_lost_worker_is_replaced(cluster: str, tmp_path: Path) -> None:
    outcomes = run(RayExecutor(tmp_path, cluster), [task("a", "kill_worker_once")])
    assert outcomes["a"].state == "done" and outcomes["a"].result == {"attempts": 2}


def test_the_same_result_as_without(cluster: str, digits: Path, samples: Path, tmp_path: Path) -> None:
    def search(out: Path, workers: int | str) -> dict[str, Any]:
        found = fewbit.auto(
            digits,
            str(samples),
            str(digits.with_name("evaluation.npz")),
            "top1",
            objective="size",
            max_drop="3pt",
            recipes=["int8", "fp16", "int8-weights"],
            workers=workers,
            out=out,
        )
        assert found.path is not None
        measured = ("id", "status", "bytes", "drop", "drop_low", "drop_high", "samples", "certified", "chosen")
        candidates = [{key: one[key] for key in measured} for one in found.document["candidates"]]
        verdict = {k: v for k, v in found.document["verdict"].items() if k != "sentence"}  # which tells the speed
        return {"candidates": candidates, "verdict": verdict, "model": found.path.read_bytes()}

    os.environ["RAY_ADDRESS"] = cluster
    try:
        assert search(tmp_path / "cluster", "auto") == search(tmp_path / "alone", 1)
    finally:
        del os.environ["RAY_ADDRESS"]


def test_no_cluster(tmp_path: Path) -> None:
    ray.shutdown()
    with pytest.raises(RecipeError, match="no Ray cluster answers"):
        RayExecutor(tmp_path, "127.0.0.1:1")


def test_a_node_that_does_not_see_the_folder_names_no_folder_to_be_removed(tmp_path: Path) -> None:
    state, result, _, folder = _work(task("a", "double", value=3), b"", str(tmp_path / "elsewhere"), 1.0)
    assert state == "failed" and "a cluster needs a file system that all of it shares" in result["reason"]
    assert folder == ""

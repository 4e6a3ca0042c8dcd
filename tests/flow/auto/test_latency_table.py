"""The table of times: what it keeps, what it reads again, and what it does with a file that is broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fewbit.errors import ModelError
from fewbit.flow.auto.latency_table import GAUGES, LatencyTable, cache_folder
from fewbit.progress import SILENT
from fewbit.runtimes.kernel import Kernel


class Runs:
    """Counts which kernels are run; they count up to a number, gauges to a small one."""

    def __init__(self, broken: str = "") -> None:
        self.opened: list[str] = []
        self.broken = broken

    def __call__(self, kernel: Kernel) -> Callable[[], object]:
        if kernel.digest == self.broken:
            raise ModelError("no such kernel")
        self.opened.append(kernel.digest)
        count = 20 if kernel.digest in GAUGES else 20_000
        return lambda: sum(range(count))


def kernel(digest: str) -> Kernel:
    return Kernel(digest, "Conv", (), b"", {})


GAUGE_KERNELS = {name: kernel(name) for name in GAUGES}


def table(folder: Path, version: str = "1.0", threads: int = 1) -> LatencyTable:
    return LatencyTable("runtime", version, "cpu", threads, folder)


def learn(found: LatencyTable, *digests: str) -> list[str]:
    """The kernels that were timed."""
    runs = Runs()
    found.learn(map(kernel, digests), runs, GAUGE_KERNELS, SILENT)
    return [name for name in runs.opened if name not in GAUGES]


def test_what_was_timed_once_is_read_and_not_timed_again(tmp_path: Path) -> None:
    first = table(tmp_path)
    assert learn(first, "a", "b", "a") == ["a", "b"]
    second = table(tmp_path)
    assert learn(second, "a", "b") == [] and second.measured == 0
    assert second.milliseconds("a") == first.milliseconds("a")
    assert learn(second, "a", "c") == ["c"] and second.measured == 1
    assert {"a", "b", "c"} <= json.loads(second.path.read_text())["milliseconds"].keys()
    assert [path.name for path in second.path.parent.iterdir()] == [second.path.name]  # no half file beside it


def test_another_version_or_number_of_threads_has_a_table_of_its_own(tmp_path: Path) -> None:
    learn(table(tmp_path), "a")
    assert learn(table(tmp_path, version="1.1"), "a") == ["a"]
    assert learn(table(tmp_path, threads=2), "a") == ["a"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"schema_version": 1, "runtime": "runtime", "version": "1.0", "cpu": "cpu", "threads": 1, "yardstick": 1.0, '
        '"milliseconds": {"a": -1.0}}',
        '{"schema_version": 1, "runtime": "runtime", "version": "1.0", "cpu": "cpu", "threads": 1, "yardstick": 0.0, '
        '"milliseconds": {"a": 1.0}}',
        '{"schema_version": 1, "runtime": "runtime", "version": "1.0", "cpu": "other", "threads": 1, "yardstick": 1.0, '
        '"milliseconds": {"a": 1.0}}',
        '{"schema_version": 2, "runtime": "runtime", "version": "1.0", "cpu": "cpu", "threads": 1, "yardstick": 1.0, '
        '"milliseconds": {"a": 1.0}}',
    ],
)
def test_a_broken_file_is_ignored_with_a_note_and_made_anew(tmp_path: Path, text: str) -> None:
    path = table(tmp_path).path
    path.parent.mkdir(parents=True)
    path.write_text(text)
    found = table(tmp_path)
    assert len(found.notes) == 1 and "is ignored and made anew" in found.notes[0]
    assert learn(found, "a") == ["a"]
    again = table(tmp_path)
    assert again.notes == [] and learn(again, "a") == []


def test_what_cannot_be_timed_counts_as_nothing_and_is_not_kept(tmp_path: Path) -> None:
    found = table(tmp_path)
    found.learn([kernel("a"), kernel("b")], Runs(broken="a"), GAUGE_KERNELS, SILENT)
    assert found.milliseconds("a") == 0.0 and found.milliseconds("b") > 0.0
    assert found.notes == ["Conv cannot be timed alone, and counts as nothing: no such kernel"]
    assert "a" not in table(tmp_path)


def test_times_of_another_search_are_kept_too(tmp_path: Path) -> None:
    learn(table(tmp_path), "a")
    one, other = table(tmp_path), table(tmp_path)
    learn(one, "b")
    learn(other, "c")
    assert {"a", "b", "c"} == json.loads(other.path.read_text())["milliseconds"].keys()


def test_the_folder_is_the_one_that_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEWBIT_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    monkeypatch.delenv("FEWBIT_CACHE")
    assert cache_folder().name == "fewbit"

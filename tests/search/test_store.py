from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fewbit.errors import OutputError, RecipeError
from fewbit.search.store import Store, work_key


def test_what_is_finished_is_there_after_reopening(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.begin("a", "build", "int8")
        assert store.finished("a") is None  # begun is not finished
        store.finish("a", "done", {"bytes": 7}, 1.5)
        store.begin("b", "build", "fp16")
        store.set_fact("name", [1, "x"])
    with Store(tmp_path) as store:
        found = store.finished("a")
        assert found is not None and (found.state, found.result, found.seconds, found.attempts) == (
            "done",
            {"bytes": 7},
            1.5,
            1,
        )
        assert store.finished("b") is None
        store.begin("b", "build", "fp16")
        assert store.attempts() == {"a": 1, "b": 2}
        assert store.fact("name") == [1, "x"] and store.fact("other") is None


def test_a_kill_leaves_what_was_finished(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from fewbit.search.store import Store\n"
        "store = Store(Path(sys.argv[1]))\n"
        "store.begin('a', 'k', 'l'); store.finish('a', 'failed', {'reason': 'r'}, 0.0); store.begin('b', 'k', 'l')\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -9
    with Store(tmp_path) as store:  # the lock went with the process
        found = store.finished("a")
        assert found is not None and found.state == "failed" and found.result == {"reason": "r"}
        assert store.finished("b") is None


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from fewbit.search.store import Store; Store(Path(sys.argv[1]))"
    with Store(tmp_path):
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "is in use by process" in done.stderr


def test_another_version_and_a_broken_file(tmp_path: Path) -> None:
    with Store(tmp_path / "old") as store:
        store.set_fact("schema_version", 0)
    with pytest.raises(RecipeError, match="has version 0, and this fewbit writes 1"):
        Store(tmp_path / "old")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "store.sqlite").write_bytes(b"no database at all, but long enough to be one" * 50)
    with pytest.raises(OutputError, match="cannot be opened"):
        Store(tmp_path / "broken")


def test_keys_say_all_that_was_asked() -> None:
    assert work_key("build", {"a": 1, "b": [2]}) == work_key("build", {"b": [2], "a": 1})
    assert len({work_key("build", {"a": 1}), work_key("build", {"a": 2}), work_key("score", {"a": 1})}) == 3

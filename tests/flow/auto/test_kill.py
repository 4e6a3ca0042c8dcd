"""A search that is killed at any moment goes on, repeats nothing that was finished, and ends with the same files."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

KILLS = int(os.environ.get("FEWBIT_KILLS", "200"))
_FILES = ("model.onnx", "plan.json", "manifest.json")


def command(model: Path, samples: Path, out: Path) -> list[str]:
    evaluation = model.with_name("evaluation.npz")
    return [
        *(sys.executable, "-m", "fewbit", "auto", str(model), "-o", str(out), "--data", str(samples)),
        *(
            "--eval",
            str(evaluation),
            "--metric",
            "top1",
            "--objective",
            "size",
            "--max-drop",
            "3pt",
            "--resume",
            "--quiet",
        ),
    ]


def finished(out: Path) -> dict[str, tuple[Any, ...]]:
    """What the store holds of work that is finished, by key."""
    path = out / "session" / "store.sqlite"
    if not path.exists():
        return {}
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
        try:
            rows = connection.execute("SELECT key, state, result, seconds, attempts FROM work WHERE state != 'running'")
        except sqlite3.OperationalError:  # killed before the tables were made
            return {}
        return {row[0]: row[1:] for row in rows}


def digests(out: Path) -> dict[str, str]:
    return {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in _FILES}


@pytest.mark.slow
def test_kills_at_random_moments_lose_and_repeat_nothing(digits: Path, samples: Path, tmp_path: Path) -> None:
    begun = time.monotonic()
    whole = tmp_path / "whole"
    subprocess.run(command(digits, samples, whole), check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - begun
    out = tmp_path / "killed"
    chance = random.Random(0)
    longest = max(2.5, 2.5 * seconds / max(1, len(finished(whole))))  # several pieces of work, so that all get done
    held: dict[str, tuple[Any, ...]] = {}
    kills = 0
    while kills < KILLS:
        process = subprocess.Popen(command(digits, samples, out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            _, words = process.communicate(timeout=chance.uniform(0.0, longest))
            assert process.returncode == 0, words  # it came to its end: from here on it starts anew
            found = finished(out)
            assert all(found[key] == value for key, value in held.items())
            assert compared(out) == compared(whole)
            held, out = {}, tmp_path / f"killed-{kills}"
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
            found = finished(out)
            assert all(found[key] == value for key, value in held.items()), "finished work was lost, or done again"
            held = found
            model = out / "model.onnx"
            if model.exists():  # the best so far is whole at any moment
                import onnx

                onnx.checker.check_model(str(model))
    subprocess.run(command(digits, samples, out), check=True, stdout=subprocess.DEVNULL)
    found = finished(out)
    assert all(found[key] == value for key, value in held.items())
    assert compared(out) == compared(whole)


def compared(out: Path) -> dict[str, Any]:
    """The files, without what tells when and where they were made."""
    told = json.loads((out / "manifest.json").read_text())
    for name in ("created", "command"):
        del told[name]
    return {**digests(out), "manifest.json": told}

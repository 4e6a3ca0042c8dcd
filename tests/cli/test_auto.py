"""fewbit auto, report and reproduce as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fewbit import demo
from tests.cli.test_bad_input import fewbit

SEARCH: tuple[Any, ...] = (
    "--data",
    demo.CALIBRATION,
    "--eval",
    demo.EVALUATION,
    "--metric",
    "top1",
    "--objective",
    "size",
)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    out = tmp_path_factory.mktemp("auto") / "found"
    done = fewbit("auto", demo.MODEL, "-o", out, *SEARCH, "--recipe", "int8", "--max-drop", "3pt", "--json")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip().splitlines()) == 1 and done.stderr == ""
    return out, json.loads(done.stdout)


def test_one_document_and_a_folder(found: tuple[Path, Any]) -> None:
    out, document = found
    assert document["path"] == str(out / "model.onnx") and document["chosen"] == "int8"
    assert document["verdict"]["kind"] == "pass"
    assert "--max-drop 3pt" in document["command"]
    names = {path.name for path in out.iterdir()}
    assert {"model.onnx", "plan.json", "auto.json", "report.html", "manifest.json", "session"} <= names
    quantized = fewbit("eval", out / "model.onnx", "--eval", demo.EVALUATION, "--metric", "top1", "--json")
    assert json.loads(quantized.stdout)["value"] > 0.97


def test_resume_is_quick_and_says_the_same(found: tuple[Path, Any]) -> None:
    out, document = found
    done = fewbit("auto", demo.MODEL, "-o", out, *SEARCH, "--recipe", "int8", "--max-drop", "3pt", "--resume")
    assert done.returncode == 0, done.stderr
    words = " ".join(done.stdout.split())
    assert document["verdict"]["sentence"] in words
    assert "best so far int8" in done.stderr


def test_report_and_reproduce(found: tuple[Path, Any], tmp_path: Path) -> None:
    out, document = found
    page = (out / "report.html").read_bytes()
    done = fewbit("report", out, "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["chosen"] == document["chosen"]
    assert (out / "report.html").read_bytes() == page
    done = fewbit("reproduce", out / "manifest.json", "-o", tmp_path / "again.onnx")
    assert done.returncode == 0 and "byte for byte" in done.stdout, done.stderr
    assert (tmp_path / "again.onnx").read_bytes() == (out / "model.onnx").read_bytes()


def test_nothing_small_enough_ends_with_3(tmp_path: Path) -> None:
    done = fewbit(
        "auto", demo.MODEL, "-o", tmp_path / "out", *SEARCH, "--recipe", "int8", "--max-size", "2kB", "--json"
    )
    assert done.returncode == 3
    assert json.loads(done.stdout)["chosen"] is None
    assert done.stderr.startswith("fewbit: no candidate meets what was asked") and len(done.stderr.splitlines()) == 1


def test_a_budget_that_is_too_short_ends_with_3_and_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = fewbit("auto", demo.MODEL, "-o", out, *SEARCH, "--budget", "0.1s")
    assert done.returncode == 3 and "give a longer --budget" in done.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("--objective", "speed"), "objective 'speed' does not exist; use latency, size, energy, or weights"),
        (("--objective", "size=0"), "give each axis once, with a weight above 0"),
        (("--max-drop", "lots"), "max-drop 'lots' is no drop: write 0.005, 0.5pt (points), or 1%"),
        (("--max-size", "big"), "max-size 'big' is no size above zero"),
        (("--max-latency-ratio", "0"), "is no ratio above zero"),
        (("--budget", "-3m"), "is no duration above zero"),
        (("--workers", "many"), "workers 'many': give a number from 1 on, ray://HOST:PORT, or auto"),
        (("--metric", "topp1"), "did you mean top1?"),
        (("--target", "gpu"), "target 'gpu' does not exist"),
        (("--data", "nowhere.npz"), "nowhere.npz does not exist"),
    ],
)
def test_bad_options_in_one_line(tmp_path: Path, changes: tuple[str, ...], message: str) -> None:
    done = fewbit("auto", demo.MODEL, "-o", tmp_path / "out", *SEARCH, *changes)
    assert done.returncode == 2 and message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()  # the next try begins in a clean place


def test_a_broken_manifest(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    for text, message in (("{", "is not JSON"), ("{}", "is no manifest of a search"), ("[]", "is no manifest")):
        path.write_text(text)
        done = fewbit("reproduce", path, "-o", tmp_path / "m.onnx")
        assert done.returncode == 2 and message in done.stderr
    done = fewbit("reproduce", tmp_path / "none.json", "-o", tmp_path / "m.onnx")
    assert done.returncode == 2 and "cannot be read" in done.stderr


def test_a_folder_with_something_in_it(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    done = fewbit("auto", demo.MODEL, "-o", tmp_path, *SEARCH)
    assert done.returncode == 2 and "is not empty" in done.stderr
    done = fewbit("auto", demo.MODEL, "-o", tmp_path, *SEARCH, "--resume")
    assert done.returncode == 2 and "holds no session to go on with" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]

"""Searches on models and with time that nobody plans for."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import fewbit
from fewbit.flow.auto.describe import can_learn
from fewbit.flow.auto.divide import divide
from fewbit.flow.auto.setup import Setup, Splits
from fewbit.flow.auto.work import build, reference, score
from fewbit.flow.common import hub_inputs
from fewbit.flow.opening import load
from fewbit.progress import SILENT
from tests.models import Builder


def two_heads(path: Path) -> dict[str, np.ndarray]:
    """Values [1, 12] and a sequence [2, 1, 6], with weights in a file beside the model; its samples."""
    b = Builder()
    hidden = b.node("Relu", [b.node("MatMul", ["x", b.weight(16, 24)])])
    b.node("Tanh", [b.node("MatMul", [hidden, b.weight(24, 12)])], "values")
    b.node("Reshape", ["values", b.constant([2, -1, 6])], "pairs")
    proto = b.proto({"x": (-1, 16)}, ["values", "pairs"])
    onnx.save(proto, path, save_as_external_data=True, location="weights.bin", size_threshold=1000)
    return {"x": np.random.default_rng(0).standard_normal((60, 16)).astype(np.float32)}


def classes_first(path: Path) -> dict[str, np.ndarray]:
    """The class as an integer, then the probabilities, as scikit-learn's exporter writes them; its samples."""
    b = Builder()
    scores = b.node("Softmax", [b.node("Gemm", ["x", b.weight(16, 5), b.weight(5)])], "scores")
    b.node("ArgMax", [scores], "class", axis=1, keepdims=0)
    b.save(path, {"x": ("N", 16)}, ["class", "scores"], dtypes={"class": onnx.TensorProto.INT64})
    return {"x": np.random.default_rng(0).standard_normal((60, 16)).astype(np.float32)}


@pytest.mark.parametrize(("make", "metric"), [(two_heads, "cosine"), (classes_first, "agreement")])
def test_without_labels(make: Any, metric: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = make(tmp_path / "m.onnx")
    monkeypatch.chdir(tmp_path.parent)
    found = fewbit.auto(
        tmp_path / "m.onnx", samples, objective="size", recipes=["int8"], max_drop="30pt", out=tmp_path / "out"
    )
    assert found.document["metric"]["name"] == metric and found.document["metric"]["value"] == pytest.approx(1.0)
    (candidate,) = found.document["candidates"]
    assert candidate["status"] == "measured" and candidate["samples"] == 12
    verdict = found.document["verdict"]
    assert (verdict["drop"] is None) == (found.document["chosen"] == "float")  # which nothing was measured of


@pytest.mark.parametrize("strict", [False, True])
def test_without_time_for_a_verdict_the_best_so_far_stays(
    strict: bool, digits: Path, samples: Path, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"objective": "size", "recipes": ["int8"], "max_drop": "5pt", "out": tmp_path / "out"}
    images = {"image": np.load(samples)["image"][:60]}
    fewbit.auto(digits, images, **given)
    store = sqlite3.connect(tmp_path / "out" / "session" / "store.sqlite")
    with store:  # all of the search is done, but the verdict
        store.execute("DELETE FROM work WHERE kind IN ('score', 'layer_noise') AND rowid > 7")
        assert store.execute("SELECT count(*) FROM work WHERE kind = 'score'").fetchone() == (1,)
    store.close()
    found = fewbit.auto(digits, images, **given, strict=strict, budget=1e-3, resume=True)
    assert found.verdict == "none" and (found.path is None) == strict
    assert found.document["candidates"][0]["doing"] == ""
    assert any("the time was up before there was a verdict" in note for note in found.document["notes"])
    if not strict:
        assert found.document["chosen"] == "int8" and found.path is not None and found.path.exists()
        assert found.document["verdict"]["sentence"].startswith("int8 is ")
        assert found.document["verdict"]["sentence"].endswith("not certified, as the time was up.")


def test_what_was_not_reached_in_time_is_skipped(digits: Path, samples: Path, tmp_path: Path) -> None:
    images = {"image": np.load(samples)["image"][:60]}
    given: dict[str, Any] = {"objective": "size", "max_drop": "5pt", "out": tmp_path / "out"}
    fewbit.auto(digits, images, **given, recipes=["int8"])
    found = fewbit.auto(digits, images, **given, recipes=["int8", "fp16", "w4a8"], budget=1e-3, resume=True)
    assert [c["status"] for c in found.document["candidates"]] == ["measured", "skipped", "skipped"]
    assert found.document["chosen"] == "int8"


def test_energy_is_told_where_it_is_the_objective(digits: Path, samples: Path, tmp_path: Path) -> None:
    images = {"image": np.load(samples)["image"][:60]}
    found = fewbit.auto(digits, images, objective="energy", recipes=["int8"], max_drop="30pt", out=tmp_path / "out")
    assert " of its energy by " in found.document["verdict"]["sentence"]


def test_a_quick_look_at_the_speed_does_not_stand_beside_the_long_one(tmp_path: Path) -> None:
    samples = classes_first(tmp_path / "m.onnx")
    made = fewbit.quantize(tmp_path / "m.onnx", samples, "int8")
    assert any("than float here" in note for note in made.notes)  # so small a network gains nothing
    setup = Setup(
        str(tmp_path / "m.onnx"),
        samples,
        None,
        None,
        "agreement",
        None,
        "ort-cpu",
        seed=0,
        confidence=0.95,
        calibration_limit=16,
    )
    splits = divide(setup, hub_inputs(load(setup.model)), SILENT).splits
    asked = {"recipe": "int8", "effort": "standard", "min_sqnr": None}
    (tmp_path / "work").mkdir()
    assert not any(
        "than float here" in note for note in build(setup, splits, asked, tmp_path / "work", SILENT)["notes"]
    )


@pytest.mark.parametrize(
    ("recipe", "learns"), [("int8", True), ("int4-weights", True), ("codebook4", False), ("fp16", False)]
)
def test_what_can_be_trained(recipe: str, learns: bool, digits: Path, samples: Path) -> None:
    assert can_learn(fewbit.quantize(digits, samples, recipe, limit=8, verify=False).plan) == learns


def test_what_lost_too_much_is_never_the_best_so_far(digits: Path, samples: Path, tmp_path: Path) -> None:
    seen: list[str | None] = []
    found = fewbit.auto(
        digits,
        {"image": np.load(samples)["image"][:60]},
        metric="cosine",
        objective="size",
        recipes=["int8", "fp16"],
        max_drop="0.0001pt",  # twelve samples do not tell what keeps to it, and int8 loses more on them
        out=tmp_path / "out",
        changed=lambda document: seen.append(document["chosen"]),
    )
    told = {c["id"]: c for c in found.document["candidates"]}
    assert told["int8"]["drop"] > 1e-6 > told["fp16"]["drop"]
    assert "int8" not in seen and "fp16" in seen


def test_an_interrupted_search_says_how_to_go_on(digits: Path, samples: Path, tmp_path: Path) -> None:
    """The samples press Ctrl-C when they are read with a session there."""
    source, out = tmp_path / "source.py", tmp_path / "out"
    source.write_text(
        "import numpy as np, os, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts without\n"
        "def feeds():\n"
        f"    if os.path.exists({str(out)!r}):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        f"    yield from ({{'image': image[None]}} for image in np.load({str(samples)!r})['image'][:30])\n"
    )
    command = [sys.executable, "-m", "fewbit", "auto", digits, "-o", out, "--data", f"{source}:feeds"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 130 and "Traceback" not in done.stderr
    assert f"what is finished is kept in {out}: the same command with --resume goes on" in done.stderr


def correlation(outputs: Any, labels: Any) -> float:
    """No mean of samples."""
    return float(np.corrcoef([first[0, 0] for first, *_ in outputs], labels)[0, 1])


def test_what_is_no_mean_is_judged_on_all_samples_together(tmp_path: Path) -> None:
    """Drops of two parts do not add up to that of both: of a correlation, or a mean average precision."""
    b = Builder()
    b.node("Gemm", ["x", b.weight(64, 64), b.weight(64)], "scores")
    path = b.save(tmp_path / "m.onnx", {"x": ("N", 64)}, ["scores"])
    samples = {"x": np.random.default_rng(0).standard_normal((60, 64)).astype(np.float32)}
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    first = session.run(None, samples)[0][:, 0]
    labels = first + 0.3 * np.random.default_rng(1).standard_normal(60).astype(np.float32)
    setup = Setup(str(path), samples, {**samples, "labels": labels}, None, correlation, None, "ort-cpu", 0, 0.95, 30)
    splits = Splits(tuple(range(30)), tuple(range(30, 40)), tuple(range(40, 60)), tuple(range(30)))
    folders = {part: tmp_path / part for part in ("built", "search", "certification")}
    for folder in folders.values():
        folder.mkdir()
    candidate = {"recipe": "int4-weights", "effort": "fast", "min_sqnr": None}
    built = build(setup, splits, candidate, folders["built"], SILENT)
    for part in ("search", "certification"):
        reference(setup, splits, part, folders[part], SILENT)  # type: ignore[arg-type]
    answers, pooled = (str(folders[part] / "outputs.npz") for part in ("certification", "search"))
    model = str(folders["built"] / built["file"])
    limit = 0.001  # 20 samples cannot tell
    found = score(setup, splits, "certification", model, answers, pooled, limit, False, 0.95, folders["built"], SILENT)
    own = ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, samples)[0][:, 0]
    real, given = (float(np.corrcoef(values[30:], labels[30:])[0, 1]) for values in (first, own))
    assert found["kind"] == "undecided" and found["all"] == pytest.approx(real - given, abs=1e-5)
